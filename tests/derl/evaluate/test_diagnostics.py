"""Diagnostics of routers, also where a modality is absent from a whole split."""

import math

import pytest
import torch

from derl.evaluate.diagnostics import diagnose
from derl.evaluate.regression import Regression
from derl.evaluate.scores import Predicted

LABELS = torch.tensor([0.0, 1.0, 2.0])
EQUAL, ONE, NONE = torch.full((3, 2, 4), 0.25), torch.eye(4)[torch.zeros(3, 2, dtype=torch.long)], torch.zeros(3, 2, 4)


def diagnosis(fusion, **experts):
    return diagnose(Predicted(LABELS, experts, fusion, torch.zeros(3, dtype=torch.bool)), LABELS, Regression())


def test_the_entropy_of_experts_is_averaged_over_modalities():
    found = diagnosis(EQUAL, text=EQUAL, audio=ONE)
    assert (found["fusion_entropy"], found["expert_entropy"]) == pytest.approx((1.0, 0.5))


def test_a_modality_absent_from_the_whole_split_does_not_count():
    found = diagnosis(EQUAL, text=EQUAL, audio=NONE)
    assert found["expert_entropy"] == pytest.approx(1.0)


def test_what_was_never_routed_is_left_out():
    found = diagnosis(NONE, text=NONE, audio=NONE)
    assert found.keys() == {"spread"}
    assert not any(map(math.isnan, found.values()))
