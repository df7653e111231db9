"""The conditions of the paper's tables."""

from derl.evaluate.conditions import Condition, inter_modal, intra_modal


def test_rates_run_from_0_to_0_9_in_tenths():
    assert intra_modal() == [
        Condition(f"r={rate}", rate) for rate in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ]


def test_available_modalities_are_the_seven_cases_of_the_paper_in_its_order():
    names = [condition.available for condition in inter_modal(("t", "v", "a"))]
    assert names == [("t",), ("v",), ("a",), ("t", "v"), ("t", "a"), ("v", "a"), ("t", "v", "a")]
