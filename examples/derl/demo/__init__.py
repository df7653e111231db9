"""A page to play with a model: what goes missing, what that does to the score, and who carries it."""
