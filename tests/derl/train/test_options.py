"""Recipes fill in what the command line leaves out, and nothing else."""

from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from derl.study.cells import Cell, Variant
from derl.train.options import fill_in, parse
from derl.train.recipes import RECIPES, describe_selection
from derl.train.run import RunError, RunFolder


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_recipe_sets_all_it_names(recipe):
    options = parse(["--recipe", recipe])
    assert {name: getattr(options, name) for name in RECIPES[recipe]} == RECIPES[recipe]


def test_what_is_given_goes_before_the_recipe():
    options = parse(["--recipe", "robust", "--average_decay", "0", "--train_pattern", "bursts"])
    assert (options.average_decay, options.train_pattern) == (0, "bursts")
    assert options.consistency_weight == RECIPES["robust"]["consistency_weight"]


def test_recipes_name_the_same_options():
    assert len({frozenset(recipe) for recipe in RECIPES.values()}) == 1
    assert all(value is not None for recipe in RECIPES.values() for value in recipe.values())  # a study compares them


def test_filling_in_twice_changes_nothing():
    options = parse(["--recipe", "robust"])
    assert fill_in(options) == options


def test_nothing_can_rewrite_the_options_of_a_caller():
    options = parse([])
    with pytest.raises(FrozenInstanceError):
        options.seed = 3


def test_a_run_that_is_resumed_gets_the_options_it_was_started_with_in_an_object_of_its_own(tmp_path):
    started = parse(["--preset", "smoke", "--seed", "5", "--output_dir", str(tmp_path / "run")])
    with RunFolder.open(started) as (folder, options):
        assert options == started
    asked = parse(["--resume", str(folder.path)])
    before = asdict(asked)
    with RunFolder.open(asked) as (again, options):
        assert options == replace(started, resume=str(folder.path))
    assert again == folder
    assert asdict(asked) == before
    (folder.path / "model").mkdir()
    (folder.path / "model" / "checkpoint.json").write_text("{}")
    asked = parse(["--evaluate", str(folder.path), "--eval_pattern", "bursts"])
    with RunFolder.open(asked) as (_, options):
        assert options == replace(started, evaluate=str(folder.path), eval_pattern="bursts")


def test_a_run_that_torchrun_starts_again_is_resumed(tmp_path, monkeypatch):
    started = parse(["--preset", "smoke", "--output_dir", str(tmp_path / "run")])
    with RunFolder.open(started):
        pass
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with RunFolder.open(started) as (folder, options):
        assert options == replace(started, resume=str(folder.path))
    assert started.resume is None


def test_options_of_another_version_are_refused(tmp_path):
    (tmp_path / "options.json").write_text('{"color": "red"}')
    with pytest.raises(RunError, match=r"expected the folder of a run, with options\.json, found .*'color'"):
        RunFolder(tmp_path).restore(parse(["--resume", str(tmp_path)]))


def test_the_criterion_is_named_as_it_is():
    assert describe_selection("mae", [0.5]) == "MAE on validation at r = 0.5"
    assert describe_selection("last", [0.5]) == "no figure: it is the last"
    assert describe_selection("mae", [rate / 10 for rate in range(10)]) == "MAE on validation at r = 0, 0.1 .. 0.9"
    assert describe_selection("corr", [0.1, 0.7]) == "Corr on validation at r = 0.1, 0.7"


def test_a_cell_trains_by_its_own_recipe_in_a_study_of_another():
    study = parse(["--epochs", "3"])
    options = Variant({"recipe": "robust", "average_decay": 0.0}).cell(2).options(study)
    assert (options.epochs, options.seed, options.average_decay) == (3, 2, 0.0)
    assert options.train_pattern == RECIPES["robust"]["train_pattern"]
    assert study.train_pattern == RECIPES["paper"]["train_pattern"]


def test_a_cell_has_one_key_whatever_the_order():
    one = Variant({"recipe": "paper", "reconstruction_levels": ("input", "joint")}).cell(0)
    other = Variant({"reconstruction_levels": ["input", "joint"], "recipe": "paper"}).cell(0)
    assert one == other
    assert one.key == "recipe=paper,reconstruction_levels=input+joint,seed=0"
    assert Cell((), 0).key == "seed=0"
