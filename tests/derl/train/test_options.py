"""Recipes fill in what the command line leaves out, and nothing else."""

import pytest

from derl.study.cells import Cell, Variant
from derl.train.options import describe_selection, fill_in, parse
from derl.train.recipes import RECIPES


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


def test_filling_in_twice_changes_nothing():
    options = parse(["--recipe", "robust"])
    before = vars(options).copy()
    assert vars(fill_in(options)) == before


def test_the_criterion_is_named_as_it_is():
    assert describe_selection(parse([])) == "MAE on validation at r = 0.5"
    assert describe_selection(parse(["--recipe", "robust"])) == "no figure: it is the last"
    rates = [str(rate / 10) for rate in range(10)]
    assert describe_selection(parse(["--select_rates", *rates])) == "MAE on validation at r = 0, 0.1 .. 0.9"
    assert describe_selection(parse(["--select_metric", "corr", "--select_rates", "0.1", "0.7"])) == (
        "Corr on validation at r = 0.1, 0.7"
    )


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
