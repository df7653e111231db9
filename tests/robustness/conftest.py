"""Runs that nobody interrupted, for every test of what an interrupted or damaged one must end as."""

import pytest

from kill import WORSE, Trial


@pytest.fixture(scope="session")
def trial(tmp_path_factory):
    return Trial(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="session")
def paper_trial(tmp_path_factory):
    """By the paper's recipe, whose first epoch is the best."""
    return Trial(tmp_path_factory.mktemp("paper_trial"), "paper", *WORSE)
