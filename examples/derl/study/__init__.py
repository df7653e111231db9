"""Many trainings, each run once, and the tables and figures that are read from them."""
