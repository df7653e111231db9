"""Signs of the labels, split by split, beside those of the paper's data."""

import pytest
import torch

from derl.data.label_counts import describe_label_counts
from derl.data.split import Split


def make_splits(**counts):
    """Splits of one-word utterances with these counts of negative, zero and positive labels."""
    splits = {}
    for name, (negative, zero, positive) in counts.items():
        labels = torch.tensor([-0.2] * negative + [0.0] * zero + [0.2] * positive)
        splits[name] = Split(["id"] * len(labels), ["word"] * len(labels), {}, {}, labels)
    return splits


def test_the_papers_own_splits_are_recognized():
    splits = make_splits(train=(552, 53, 679), valid=(92, 13, 124), test=(379, 30, 277))
    assert describe_label_counts(splits, "mosi") == [
        "train: 552/53/679 negative/zero/positive, as in the paper's Table A.7",
        "valid: 92/13/124 negative/zero/positive, as in the paper's Table A.7",
        "test: 379/30/277 negative/zero/positive, as in the paper's Table A.7",
    ]


@pytest.mark.parametrize(("preset", "printed"), [("mosi", "552/53/679"), ("mosei", "4738/3540/8048")])
def test_other_splits_are_shown_beside_the_papers(preset, printed):
    splits = make_splits(train=(10, 2, 12), valid=(1, 1, 1), test=(1, 1, 1))
    lines = describe_label_counts(splits, preset)
    assert lines[0] == f"train: 10/2/12 negative/zero/positive; the paper's Table A.7 has {printed}"
    assert len(lines) == 3


def test_a_preset_without_data_of_the_paper_says_nothing():
    assert describe_label_counts(make_splits(train=(1, 1, 1)), "smoke") == []
