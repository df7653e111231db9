"""The digits example: its three views, what a missing one may change, and the command as a user runs it."""

import json
import sys

import numpy as np
import pytest
import torch

import digits_views
from digits.baseline import ConcatBaseline
from digits.late import LateFusion
from digits.missing import CONDITIONS, everything, keep_masks
from digits.model import ViewsModel
from digits.report import CONCAT, LATE, OURS, rows
from digits.training import evaluate, train
from digits.views import SHAPES, Split, load_views, see

COMMAND = ["examples/digits_views.py"]


@pytest.fixture(scope="module")
def splits():
    return load_views()


@pytest.fixture
def views(splits):
    return {name: view[:8] for name, view in splits["test"].views.items()}


@pytest.fixture(params=[ViewsModel, LateFusion, ConcatBaseline])
def model(request):
    return request.param().eval()


def test_every_split_has_all_views_and_a_tenth_of_each_digit(splits):
    assert {name: len(split.labels) for name, split in splits.items()} == {"train": 1078, "valid": 359, "test": 360}
    for split in splits.values():
        assert {name: tuple(view.shape[1:]) for name, view in split.views.items()} == SHAPES
        assert all(view.dtype == torch.float32 and view.isfinite().all() for view in split.views.values())
        shares = split.labels.bincount(minlength=10) / len(split.labels)
        assert ((shares - 0.1).abs() < 0.01).all()


def test_no_image_is_in_two_splits(splits):
    images = torch.cat([split.views["pixels"] for split in splits.values()])
    assert len(images.unique(dim=0)) == len(images)


def test_features_are_standardized_by_the_training_split(splits):
    scale, mean = torch.std_mean(splits["train"].views["waves"], dim=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=0.05, rtol=0)
    torch.testing.assert_close(scale, torch.ones_like(scale), atol=0.1, rtol=0)


def test_waves_are_the_cosine_transform_by_its_definition():
    image = np.random.default_rng(0).uniform(size=(8, 8))
    k, n = np.arange(8)[:, None], np.arange(8)
    basis = np.cos(np.pi * k * (2 * n + 1) / 16) * np.where(k == 0, np.sqrt(1 / 8), 1 / 2)
    np.testing.assert_allclose(see(image[None])["waves"][0], (basis @ image @ basis.T)[:4, :4], atol=1e-12)


@pytest.mark.parametrize(
    ("slope", "direction"),
    [((0, 1), 0), ((1, 1), 1), ((1, 0), 2), ((1, -1), 3), ((0, -1), 0), ((-1, 1), 3)],
)
def test_edges_tell_the_direction_of_a_slope_whichever_way_it_climbs(slope, direction):
    down, right = np.mgrid[:8, :8]
    edges = see((slope[0] * down + slope[1] * right).astype(float)[None])["edges"].reshape(4, 4, 4)
    np.testing.assert_allclose(edges[..., direction], 4 * np.hypot(*slope))  # four pixels a cell
    assert edges.sum() == pytest.approx(edges[..., direction].sum())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("content", [0.0, 1e30, float("nan"), float("inf")])
def test_what_is_in_a_missing_view_changes_nothing(model, views, name, content):
    keep = keep_masks(views, f"no {name}", torch.Generator())
    prediction = model(views, keep)
    assert prediction.isfinite().all()
    changed = views | {name: torch.full_like(views[name], content)}
    assert torch.equal(model(changed, keep), prediction)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_is_in_a_lost_frame_changes_nothing(model, views, condition):
    keep = keep_masks(views, condition, torch.Generator().manual_seed(0))
    spoiled = {name: view.masked_fill(~keep[name][..., None], torch.nan) for name, view in views.items()}
    assert torch.equal(model(spoiled, keep), model(views, keep))


def test_every_view_matters_when_it_is_there(model, views):
    keep = everything(views)
    for name in views:
        changed = views | {name: views[name].flip(0)}
        assert not torch.equal(model(changed, keep), model(views, keep))


@pytest.mark.parametrize("kind", [ViewsModel, LateFusion])
def test_every_parameter_learns(kind, views):
    model = kind()
    model.loss(views, keep_masks(views, "frames 0.5", torch.Generator().manual_seed(0)), torch.arange(8)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_conditions_lose_what_they_say(views):
    def present(condition):
        return [name for name, mask in keep_masks(views, condition, torch.Generator()).items() if mask.all()]

    assert present("complete") == list(SHAPES)
    assert present("no edges") == ["pixels", "waves"]
    assert present("only edges") == ["edges"]
    assert not any(mask.any() for mask in keep_masks(views, "frames 1.0", torch.Generator()).values())


@pytest.mark.parametrize("condition", ["", "no audio", "only", "holes 0.5", "frames half", "complete 0.5"])
def test_an_unknown_condition_is_named(views, condition):
    with pytest.raises(ValueError, match=r"keep_masks expected condition .*from \('pixels', 'edges', 'waves'\).*got"):
        keep_masks(views, condition, torch.Generator())


def test_training_ends_with_the_weights_of_the_best_epoch(splits):
    few = Split({name: view[:64] for name, view in splits["train"].views.items()}, splits["train"].labels[:64])
    model = ConcatBaseline(hidden_dim=16, dropout=0.5)
    score = train(model, few, few, learning_rate=0.5, epochs=15, seed=0)  # so high a rate that accuracy jumps about
    assert score == pytest.approx(np.mean(list(evaluate(model, few, draws=1).values())))


def test_the_table_marks_the_better_model_whichever_it_is():
    def seeds(*figures):
        return [dict.fromkeys(CONDITIONS, figure) for figure in figures]

    def cells(condition, **models):
        return [cell.strip() for cell in rows({name: seeds(*models[name]) for name in (OURS, LATE, CONCAT)})[condition]]

    clear = cells("complete", experts=(80.0, 82.0), late=(70.0, 73.0), concat=(90.0, 92.0))
    assert clear == ["81.0±1.4", "71.5±2.1", "91.0±1.4**", "+9.5±0.7", "-10.0±0.0"]
    within = cells("mean", experts=(81.0, 83.0), late=(82.0, 80.0), concat=(70.0, 70.0))
    assert within == ["82.0±1.4*", "81.0±1.4", "70.0±0.0", "+1.0±2.8", "+12.0±1.4"]
    single = cells("complete", experts=(81.0,), late=(81.0,), concat=(81.0,))
    assert single == ["81.0", "81.0", "81.0", "+0.0", "+0.0"]


def test_late_fusion_answers_with_the_mean_over_the_views_that_are_there(views):
    model = LateFusion().eval()
    keep = keep_masks(views, "no edges", torch.Generator())
    alone = [model(views, keep_masks(views, f"only {name}", torch.Generator())) for name in ("pixels", "waves")]
    torch.testing.assert_close(model(views, keep), torch.stack(alone).mean(0))


def test_the_command_trains_prints_and_writes(monkeypatch, capsys, tmp_path):
    out, picture = tmp_path / "digits.json", tmp_path / "digits.png"
    monkeypatch.setattr(sys, "argv", [*COMMAND, "--epochs", "1", "--out", str(out), "--picture", str(picture)])
    assert digits_views.main() == 0
    printed = capsys.readouterr().out
    assert [condition for condition in CONDITIONS if condition not in printed] == []
    results = json.loads(out.read_text())
    assert results["accuracy"].keys() == {OURS, LATE, CONCAT}
    assert [list(seeds[0]) for seeds in results["accuracy"].values()] == [list(CONDITIONS)] * 3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_tuning_judges_every_setting_without_the_test_split(monkeypatch, capsys, splits):
    grids = {
        OURS: {"learning_rate": [1e-3, 1e-2]},
        CONCAT: {"learning_rate": [1e-3], "dropout": [0.0, 0.5], "hidden_dim": [8]},
    }
    monkeypatch.setattr(digits_views, "GRIDS", grids)
    monkeypatch.setattr(digits_views, "load_views", lambda: {name: splits[name] for name in ("train", "valid")})
    monkeypatch.setattr(sys, "argv", [*COMMAND, "--epochs", "1", "--tune"])
    assert digits_views.main() == 0
    printed = capsys.readouterr().out
    settings = [
        "learning_rate 0.001\n",
        "learning_rate 0.01\n",
        "dropout 0.0, hidden_dim 8",
        "dropout 0.5, hidden_dim 8",
    ]
    assert [setting for setting in settings if setting not in printed] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0.5"], "unrecognized arguments: --rate"),
        (["--seeds", "0"], "expected a whole number of at least 1, got '0'"),
        (["--epochs", "many"], "expected a whole number of at least 1, got 'many'"),
        (["--out", "nowhere/digits.json"], "expected a file in a folder that exists, got 'nowhere/digits.json'"),
        (["--tune", "--out", "digits.json"], "leave out --out and --picture"),
    ],
)
def test_a_bad_option_is_one_clear_line_before_any_training(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*COMMAND, *arguments])
    with pytest.raises(SystemExit) as stopped:
        digits_views.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
