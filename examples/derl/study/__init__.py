"""Run many trainings, each once, and make tables and figures of their results."""
