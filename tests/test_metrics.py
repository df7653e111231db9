"""Metrics agree with scikit-learn and SciPy, batch by batch as in one shot, and say why a value is undefined."""

import math
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error
from torch import Tensor

import modx.metrics
from modx.metrics import ConstantInputWarning, ExpertLoad, RoutingEntropy, SentimentMetrics, sentiment_metrics

KEYS = ["mae", "corr", "acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc5", "acc7"]


def oracle(preds: Tensor, target: Tensor) -> dict[str, float]:
    """The eight scores in float64 by scikit-learn and SciPy; nan where undefined."""
    p, t = preds.double().numpy(), target.double().numpy()
    varies = np.ptp(p) > 0 and np.ptp(t) > 0
    non0 = t != 0
    classes = {
        "acc2_has0": (t >= 0, p >= 0),
        "acc2_non0": (t[non0] > 0, p[non0] > 0),
        "acc5": (np.rint(np.clip(t, -2, 2)), np.rint(np.clip(p, -2, 2))),
        "acc7": (np.rint(np.clip(t, -3, 3)), np.rint(np.clip(p, -3, 3))),
    }
    scores = {key: accuracy_score(*pair) if len(pair[0]) else math.nan for key, pair in classes.items()}
    for key in ("has0", "non0"):
        true, pred = classes[f"acc2_{key}"]
        f1 = f1_score(true, pred, average="weighted", zero_division=0) if len(true) else math.nan
        scores[f"f1_{key}"] = f1
    corr = stats.pearsonr(p, t).statistic if varies else math.nan
    return scores | {"mae": mean_absolute_error(t, p), "corr": corr}


def assert_agrees(preds: Tensor, target: Tensor, tolerance: float = 1e-6) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        scores = sentiment_metrics(preds, target)
    assert list(scores) == KEYS
    expected = oracle(preds, target)
    for key, score in scores.items():
        assert score.shape == ()
        assert score.item() == pytest.approx(expected[key], abs=tolerance, nan_ok=True), key


def random_scores(rows: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = (torch.randn(rows, generator=generator, dtype=dtype) * 1.5 * 5).round().div(5).clamp(-3, 3)
    return target + torch.randn(rows, generator=generator, dtype=dtype), target


# sentiment_metrics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [2, 3, 50, 686])
def test_scores_agree_with_scikit_learn_and_scipy(rows, dtype):
    for seed in range(3):
        preds, target = random_scores(rows, dtype, seed)
        assert_agrees(preds, target)
        assert all(score.dtype == dtype for score in sentiment_metrics(preds, target).values())


# multiples of 1/2 hit every tie of the rounding, every threshold and both clips
scores_of = st.integers(-8, 8).map(lambda n: n / 2)


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(scores_of, scores_of), min_size=1, max_size=12))
def test_scores_agree_on_ties_thresholds_and_degenerate_input(pairs):
    preds, target = torch.tensor(pairs).T
    assert_agrees(preds, target)


@pytest.mark.parametrize(
    ("score", "class5", "class7"),
    [(0.5, 0, 0), (1.5, 2, 2), (2.5, 2, 2), (2.51, 2, 3), (3.7, 2, 3), (0.51, 1, 1), (1.0, 1, 1)],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_scores_are_clipped_then_rounded_with_halves_to_even(score, class5, class7, sign):
    preds = torch.full((7,), sign * score)
    target = torch.arange(-3.0, 4.0)
    with pytest.warns(ConstantInputWarning):
        scores = sentiment_metrics(preds, target)
    assert scores["acc7"] * 7 == pytest.approx(1)
    assert scores["acc5"] * 7 == pytest.approx(sum(max(-2, min(2, t)) == sign * class5 for t in range(-3, 4)))
    with pytest.warns(ConstantInputWarning):
        assert sentiment_metrics(preds, torch.full((7,), float(sign * class7)))["acc7"] == 1


def test_a_zero_prediction_is_positive_with_zero_and_negative_without():
    preds, target = torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.0, 1.0, -1.0])
    scores = sentiment_metrics(preds, target)
    assert scores["acc2_has0"] == 1
    assert scores["acc2_non0"] == 0.5


def test_only_labels_of_exactly_zero_are_left_out():
    preds, target = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([1e-30, 0.0, -0.0])
    assert sentiment_metrics(preds, target)["acc2_non0"] == 1


@pytest.mark.parametrize(
    ("preds", "target", "reason"),
    [
        ([0.3, 0.3, 0.3], [1.0, -1.0, 2.0], "the predictions are constant"),
        ([1.0, -1.0, 2.0], [0.3, 0.3, 0.3], "the labels are constant"),
        ([0.3, 0.3], [1.0, 1.0], "the predictions and the labels are constant"),
        ([0.3], [1.0], "the predictions and the labels are constant"),
    ],
)
def test_correlation_with_a_constant_is_nan_and_says_which(preds, target, reason):
    with pytest.warns(ConstantInputWarning, match=f"corr is nan: {reason}") as caught:
        scores = sentiment_metrics(torch.tensor(preds), torch.tensor(target))
    assert caught[0].filename == __file__
    assert scores["corr"].isnan()
    assert not any(score.isnan() for key, score in scores.items() if key != "corr")


def test_labels_all_zero_leave_the_scores_without_zero_undefined():
    with (
        pytest.warns(ConstantInputWarning, match="acc2_non0 and f1_non0 are nan: every label is 0"),
        pytest.warns(ConstantInputWarning, match="the labels are constant"),
    ):
        scores = sentiment_metrics(torch.tensor([0.4, -1.0]), torch.zeros(2))
    assert [key for key in KEYS if scores[key].isnan()] == ["corr", "acc2_non0", "f1_non0"]


def test_one_outlier_among_thousands_of_equal_float32_scores_still_correlates():
    preds, target = torch.zeros(10_000), random_scores(10_000)[1]
    preds[3] = 1.0
    assert_agrees(preds, target)


def test_low_precision_scores_are_averaged_in_float32():
    preds, target = (scores.bfloat16() for scores in random_scores(500))
    assert_agrees(preds, target)
    assert sentiment_metrics(preds, target)["mae"].dtype == torch.float32


def test_inputs_are_left_alone_and_results_carry_no_graph():
    preds, target = random_scores(9)
    before = preds.clone(), target.clone()
    scores = sentiment_metrics(preds.requires_grad_(), target)
    assert torch.equal(preds, before[0])
    assert torch.equal(target, before[1])
    assert not any(score.requires_grad for score in scores.values())


def test_no_rows_are_refused():
    with pytest.raises(
        ValueError, match="sentiment_metrics expected preds and target of at least one row, got 0; call update"
    ):
        sentiment_metrics(torch.empty(0), torch.empty(0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_row_that_is_not_finite_is_named(bad):
    good, poisoned = torch.zeros(5), torch.tensor([0.0, 1.0, bad, 2.0, math.nan])
    with pytest.raises(ValueError, match=rf"sentiment_metrics expected finite preds in every row, got \{{2: {bad}, "):
        sentiment_metrics(poisoned, good)
    with pytest.raises(ValueError, match=rf"expected finite target in every row, got \{{2: {bad}, "):
        sentiment_metrics(good, poisoned)


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.zeros(3), torch.zeros(4), r"target of shape \(N=3,\), got \(4,\)"),
        (torch.zeros(3, 1), torch.zeros(3, 1), r"preds of shape \(N,\), got \(3, 1\)"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), "target in a floating-point dtype, got torch.int64"),
        (torch.zeros(3, dtype=torch.long), torch.zeros(3), "preds in a floating-point dtype, got torch.int64"),
    ],
    ids=["lengths", "2-d", "integer labels", "integer predictions"],
)
def test_scores_of_another_kind_are_refused(preds, target, message):
    for score in (sentiment_metrics, SentimentMetrics().update):
        with pytest.raises(ValueError, match="expected " + message):
            score(preds, target)


# SentimentMetrics


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [13, 0, 27]], ids=str)
def test_batches_score_as_one_shot(sizes):
    preds, target = random_scores(40)
    metric = SentimentMetrics()
    for batch in zip(preds.split(sizes), target.split(sizes), strict=True):
        metric.update(*batch)
    expected = sentiment_metrics(preds, target)
    scores = metric.compute()
    assert list(scores) == KEYS
    assert all(torch.equal(scores[key], expected[key]) for key in KEYS)


def test_reset_forgets_earlier_rows():
    metric = SentimentMetrics()
    metric.update(*random_scores(30, seed=1))
    metric.compute()
    metric.reset()
    preds, target = random_scores(20, seed=2)
    metric.update(preds, target)
    assert torch.equal(metric.compute()["mae"], sentiment_metrics(preds, target)["mae"])


def test_forward_scores_the_batch_and_accumulates():
    metric = SentimentMetrics()
    preds, target = random_scores(40)
    for batch in zip(preds.split(20), target.split(20), strict=True):
        assert torch.equal(metric(*batch)["acc7"], sentiment_metrics(*batch)["acc7"])
    assert torch.equal(metric.compute()["acc7"], sentiment_metrics(preds, target)["acc7"])


def test_collected_scores_carry_no_graph():
    metric = SentimentMetrics()
    preds, target = random_scores(6)
    metric.update(preds.requires_grad_(), target)
    assert not metric.preds[0].requires_grad


def test_collected_scores_are_concatenated_across_processes():
    preds, target = random_scores(40)
    metric = SentimentMetrics()
    for batch in zip(preds[:20].split(10), target[:20].split(10), strict=True):
        metric.update(*batch)
    elsewhere = iter([preds[20:], target[20:]])  # what another process holds, in the order of the states

    def gather(state: Tensor, group: object) -> list[Tensor]:
        return [state, next(elsewhere)]

    with metric.sync_context(dist_sync_fn=gather, distributed_available=lambda: True):
        assert torch.equal(metric.preds, preds)
        assert torch.equal(metric.target, target)
        scores = SentimentMetrics.compute(metric)
    assert torch.equal(scores["corr"], sentiment_metrics(preds, target)["corr"])


def test_an_update_names_the_row_of_its_batch_that_is_not_finite():
    metric = SentimentMetrics()
    metric.update(*random_scores(4))
    with pytest.raises(ValueError, match=r"SentimentMetrics expected finite preds in every row, got \{1: nan\}"):
        metric.update(torch.tensor([0.0, math.nan]), torch.zeros(2))


def test_computing_before_an_update_is_refused():
    with (
        pytest.warns(UserWarning, match="called before the ``update``"),
        pytest.raises(ValueError, match="of at least one row, got 0"),
    ):
        SentimentMetrics().compute()


# ExpertLoad and RoutingEntropy


def random_weights(*shape: int, dtype: torch.dtype = torch.float32, sparse: bool = False, seed: int = 0) -> Tensor:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 3
    if sparse:
        logits[logits < logits.median(-1, keepdim=True).values] = -math.inf
    return logits.softmax(-1)


def expected_load(weights: Tensor) -> np.ndarray:
    return weights.double().reshape(-1, weights.shape[-1]).numpy().mean(0)


def expected_entropy(weights: Tensor) -> float:
    rows = weights.double().reshape(-1, weights.shape[-1]).numpy()
    return float(stats.entropy(rows, axis=-1, base=rows.shape[-1]).mean())


every_router_metric = pytest.mark.parametrize(
    ("metric_class", "expected"),
    [(ExpertLoad, expected_load), (RoutingEntropy, expected_entropy)],
    ids=["load", "entropy"],
)


@every_router_metric
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("shape", [(5, 4), (2, 7, 3), (4,), (2, 3, 5, 6)], ids=str)
def test_router_metrics_agree_with_scipy(metric_class, expected, shape, sparse, dtype):
    weights = random_weights(*shape, sparse=sparse).to(dtype)
    metric = metric_class(shape[-1])
    metric.update(weights)
    tolerance = 2e-2 if dtype == torch.bfloat16 and metric_class is RoutingEntropy else 1e-6  # SciPy renormalizes
    np.testing.assert_allclose(metric.compute().numpy(), expected(weights), atol=tolerance)


@every_router_metric
@settings(max_examples=40, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 8), num_experts=st.integers(2, 5))
def test_tokens_outside_the_mask_do_not_count(metric_class, expected, data, tokens, num_experts):
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens).filter(any)))
    weights = random_weights(tokens, num_experts)
    poisoned = torch.where(mask[:, None], weights, math.nan)
    metric = metric_class(num_experts)
    metric.update(poisoned, mask)
    np.testing.assert_allclose(metric.compute().numpy(), expected(weights[mask]), atol=1e-6)


@every_router_metric
def test_router_metrics_average_over_tokens_not_batches_and_reset(metric_class, expected):
    weights = random_weights(60, 4, sparse=True)
    metric = metric_class(4)
    metric.update(random_weights(9, 4, seed=5))
    metric.compute()
    metric.reset()
    for batch in weights.split([1, 40, 0, 19]):
        metric.update(batch)
    np.testing.assert_allclose(metric.compute().numpy(), expected(weights), atol=1e-6)


@every_router_metric
def test_router_metrics_add_up_across_processes(metric_class, expected):
    parts = random_weights(30, 3).split([10, 20])
    one, other = metric_class(3), metric_class(3)
    one.update(parts[0])
    other.update(parts[1])
    one._reduce_states(other.metric_state)
    np.testing.assert_allclose(one.compute().numpy(), expected(torch.cat(parts)), atol=1e-6)


@every_router_metric
def test_rows_of_zeros_are_absent_tokens_and_do_not_count(metric_class, expected):
    weights, mask = random_weights(9, 3), torch.arange(9) % 3 > 0
    metric = metric_class(3)
    metric.update(torch.where(mask[:, None], weights, 0))
    np.testing.assert_allclose(metric.compute().numpy(), expected(weights[mask]), atol=1e-6)


@every_router_metric
def test_no_counted_token_is_nan(metric_class, expected):
    metric = metric_class(3)
    metric.update(random_weights(4, 3), torch.zeros(4, dtype=torch.bool))
    assert metric.compute().isnan().all()


@every_router_metric
def test_router_weights_that_do_not_fit_are_refused(metric_class, expected):
    name = metric_class.__name__
    for weights in (torch.ones(4, 2), torch.ones(4, 3, dtype=torch.long), torch.tensor(1.0)):
        found = r"of shape \(.*num_experts=3\), got \(|in a floating-point dtype, got torch.int64"
        message = rf"{name} expected router_weights ({found})"
        with pytest.raises(ValueError, match=message):
            metric_class(3).update(weights)
    for mask in (torch.ones(4), torch.ones(3, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=rf"{name} expected mask (to be bool, got|of shape \(4,\), got)"):
            metric_class(3).update(torch.ones(4, 3), mask)
    with pytest.raises(ValueError, match=f"{name} expected num_experts >= 2, got 1"):
        metric_class(1)


def test_load_of_all_experts_sums_to_one():
    metric = ExpertLoad(6)
    metric.update(random_weights(8, 5, 6))
    metric.update(random_weights(3, 6))
    assert metric.compute().sum() == pytest.approx(1)


@pytest.mark.parametrize("num_experts", [2, 3, 8])
def test_entropy_runs_from_one_expert_to_uniform(num_experts):
    metric = RoutingEntropy(num_experts)
    metric.update(torch.eye(num_experts))
    assert metric.compute() == 0
    metric.reset()
    metric.update(torch.full((5, num_experts), 1 / num_experts))
    assert metric.compute() == pytest.approx(1)


# the dependency


def test_without_torchmetrics_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    spec = spec_from_file_location("modx.again", modx.metrics.__file__)
    with pytest.raises(ImportError, match=r"pip install modx\[metrics\]"):
        spec.loader.exec_module(module_from_spec(spec))
