"""Features of what was measured: against plain loops, and never from what was not."""

import numpy as np
import pytest
import torch
from invented_stays import arrays

from icu.front import FADE, SUMMARY, WINDOW, WINDOWS, FrontEnd, describe
from icu.missing import CONDITIONS, copies, drop_at_random, erase, hide, observed
from icu.ranks import INTERVALS, QUANTILES, Ranks, place
from icu.stays import Stays
from icu.summary import as_table, carry_forward, summarize
from icu.variables import COLUMNS, HOURS, MODALITIES, VARIABLES


@pytest.fixture
def stays():
    found = arrays()
    return Stays(*(torch.from_numpy(found[name]).float() for name in ("values", "static", "died")), ())


def test_the_last_value_and_its_age_are_those_of_a_plain_loop(stays):
    carried = carry_forward(stays.values)
    for stay, column in np.ndindex(8, len(VARIABLES)):
        value, age, known = 0.0, 0, False
        for hour in range(HOURS):
            measured = stays.values[stay, hour, column].item()
            value, age, known = (value, age + known, known) if np.isnan(measured) else (measured, 0, True)
            assert carried.value[stay, hour, column] == value
            assert carried.age[stay, hour, column] == age
            assert carried.known[stay, hour, column] == known


def test_what_is_known_at_the_end_of_a_window_is_what_is_known_in_its_last_hour(stays):
    hourly, windowed = carry_forward(stays.values), carry_forward(stays.values, WINDOW)
    for whole, part in zip(hourly, windowed, strict=True):
        assert torch.equal(part, whole[:, WINDOW - 1 :: WINDOW])


def test_a_window_has_the_mean_and_the_count_of_its_values_and_how_fresh_the_last_one_is(stays):
    ranks = Ranks(stays)(stays)
    windows = describe(ranks).windows
    for stay, window, column in np.ndindex(4, WINDOWS, len(VARIABLES)):
        values = ranks.values[stay, : WINDOW * (window + 1), column].double().numpy()
        inside = values[WINDOW * window :]
        inside = inside[~np.isnan(inside)]
        hours = (~np.isnan(values)).nonzero()[0]
        mean = 2 * inside.mean() - 1 if len(inside) else 0
        last = 2 * values[hours[-1]] - 1 if len(hours) else 0
        fresh = np.exp(-(len(values) - 1 - hours[-1]) / FADE) if len(hours) else 0
        expected = [mean, len(inside) / WINDOW, last, fresh]
        np.testing.assert_allclose(windows[stay, window, column], expected, rtol=1e-5, atol=1e-6)


def test_a_summary_is_that_of_the_measured_values_alone(stays):
    summary = summarize(stays.values, carry_forward(stays.values))
    for stay, column in np.ndindex(8, len(VARIABLES)):
        measured = stays.values[stay, :, column].double().numpy()
        measured = measured[~np.isnan(measured)]
        expected = (measured.mean(), measured.min(), measured.max(), measured[-1]) if len(measured) else (0, 0, 0, 0)
        found = [figure[stay, column].item() for figure in summary]
        np.testing.assert_allclose(found, [*expected, len(measured)], rtol=1e-6)


def test_the_table_for_scikit_learn_has_no_figure_of_what_was_never_measured(stays):
    table = as_table(hide(stays, "no laboratory"))
    assert table.shape == (60, 5 * 37 + 5)
    for block in range(5):
        figures = table[:, 37 * block :][:, COLUMNS["laboratory"]]
        assert (figures == 0).all() if block == 4 else np.isnan(figures).all()


def test_ranks_are_the_share_of_training_values_below(stays):
    train = stays.values[..., VARIABLES.index("HR")]
    ranks = Ranks(stays)(stays).values[..., VARIABLES.index("HR")]
    assert torch.equal(ranks.isnan(), train.isnan())
    measured, placed = train[train.isfinite()].numpy(), ranks[train.isfinite()].numpy()
    levels = np.linspace(0, 1, len(QUANTILES))
    np.testing.assert_allclose(placed, np.interp(measured, np.quantile(measured, QUANTILES), levels), atol=1e-6)
    assert placed.min() == 0
    assert placed.max() == 1


def test_ranks_come_from_the_training_stays_alone(stays):
    ranks = Ranks(stays.take(torch.arange(30)))
    beyond = ranks(stays._replace(values=stays.values + 1e6, static=stays.static + 1e6))
    assert (beyond.values[beyond.values.isfinite()] == 1).all()


def test_equal_values_have_one_rank_between_their_neighbors(stays):
    column = VARIABLES.index("MechVent")
    stays.values[..., column] = torch.where(stays.values[..., column].isfinite(), 1.0, torch.nan)
    ranks = Ranks(stays)(stays).values[..., column]
    assert ranks[ranks.isfinite()].unique().tolist() == [0.5]


def test_a_variable_that_is_never_measured_in_training_does_no_harm(stays):
    stays.values[..., 3] = torch.nan
    ranks = Ranks(stays)(arrays_with(stays, 3))
    assert ranks.values[..., 3].isfinite().all()


def arrays_with(stays, column):
    values = stays.values.clone()
    values[..., column] = 5.0
    return stays._replace(values=values)


def test_a_rank_fills_its_intervals_from_below():
    placed = place(torch.tensor([0.0, 1.5 / INTERVALS, 1.0]))
    assert placed.sum(1).tolist() == pytest.approx([0, 1.5, INTERVALS])
    assert placed[1, :3].tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_a_frame_is_masked_exactly_where_nothing_was_measured(stays):
    frames = FrontEnd(8, 0.0)(describe(stays))
    for name, columns in COLUMNS.items():
        seen = stays.values[..., columns].isfinite()
        summary = seen.flatten(1).any(1, keepdim=True).expand(-1, SUMMARY)
        windows = seen.any(2).unflatten(1, (WINDOWS, WINDOW)).any(2)
        assert torch.equal(frames.masks[name], torch.cat([windows, summary], 1))
        assert frames.inputs[name].shape == (60, WINDOWS + SUMMARY, 8)
    assert torch.equal(frames.masks["static"], stays.static.isfinite().any(1, keepdim=True).expand(-1, SUMMARY))
    assert all(part.isfinite().all() for part in frames.inputs.values())


@pytest.mark.parametrize("name", MODALITIES)
def test_a_modality_without_a_value_is_absent(stays, name):
    frames = FrontEnd(8, 0.0)(describe(hide(stays, f"no {name}")))
    assert not frames.present[name].any()
    assert all(frames.present[other].any() for other in MODALITIES if other != name)


def test_conditions_take_away_what_they_say(stays):
    def kept(condition):
        now, before = observed(hide(stays, condition)), observed(stays)
        return {name: (now[name].sum() / before[name].sum()).item() for name in MODALITIES}

    everything = dict.fromkeys(MODALITIES, 1.0)
    assert kept("complete") == everything
    assert kept("no laboratory") == everything | {"laboratory": 0.0}
    assert kept("only vitals") == dict.fromkeys(MODALITIES, 0.0) | {"vitals": 1.0}
    assert kept("half the vitals") == pytest.approx(everything | {"vitals": 0.5}, abs=0.1)
    halved = dict.fromkeys(COLUMNS, 0.5) | {"static": 1.0}
    assert kept("half the hours") == pytest.approx(halved, abs=0.1)
    assert hide(stays, "first 24 hours").values[:, 24:].isnan().all()
    torch.testing.assert_close(
        hide(stays, "first 24 hours").values[:, :24], stays.values[:, :24], rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_is_the_same_every_time_and_invents_nothing(stays, condition):
    first, second = hide(stays, condition), hide(stays, condition)
    torch.testing.assert_close(first.values, second.values, rtol=0, atol=0, equal_nan=True)
    assert not (first.values.isfinite() & ~stays.values.isfinite()).any()


def test_an_unknown_condition_is_named(stays):
    with pytest.raises(ValueError, match=r"hide expected one of .*'complete'.*got 'no blood'"):
        hide(stays, "no blood")


def test_training_drops_hours_or_modalities_but_never_all(stays):
    generator = torch.Generator().manual_seed(0)
    dropped = [drop_at_random(stays, 1.0, generator) for _ in range(5)]
    assert all(sum(mask.any(1).int() for mask in observed(one).values()).max() <= 4 for one in dropped)
    shares = [(one.values.isfinite().sum() / stays.values.isfinite().sum()).item() for one in dropped]
    assert 0.3 < np.mean(shares) < 0.7
    torch.testing.assert_close(
        drop_at_random(stays, 0.0, generator).values, stays.values, rtol=0, atol=0, equal_nan=True
    )


def test_every_model_trains_on_the_complete_stays_and_on_copies_with_dropped_input(stays):
    complete, *dropped = copies(stays, torch.Generator().manual_seed(0))
    assert complete is stays
    shares = [(one.values.isfinite().sum() / stays.values.isfinite().sum()).item() for one in dropped]
    assert len(set(shares)) == len(shares) == 3
    assert 0.5 < min(shares) < max(shares) < 1


def test_erasing_what_was_kept_changes_nothing(stays):
    once = erase(stays, observed(stays))
    torch.testing.assert_close(once.values, stays.values, rtol=0, atol=0, equal_nan=True)
