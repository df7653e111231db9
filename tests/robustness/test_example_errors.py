"""What users of the sentiment model call with their own input: what is wrong is refused, with the remedy."""

import math

import numpy as np
import pytest
import torch

from derl.data.collate import Collator
from derl.data.load import load_complete, load_data
from derl.data.missing import MissingDataset
from derl.data.mmsa import read_mmsa
from derl.data.shard_writer import ShardWriter
from derl.data.shards import open_shards, verify_shards
from derl.data.split import DataError, Split, load_splits, save_splits
from derl.data.synthetic import make_synthetic
from derl.model.config import DerlConfig
from derl.model.config_rules import RULES
from derl.model.derl import DerlModel
from derl.predict.predictor import Predictor, load
from derl.predict.processor import DerlProcessor
from errors import has_remedy

ODD = (None, "8", 2.5, True, math.nan, [8])
COUNTS = (0, -1, *ODD)
WRONG = {
    "modalities": ((), "text", ("audio", "audio"), (1,), None, 3),
    "input_dims": (3, ["audio"], {"audio": 0, "vision": 2}, {"audio": 2.5, "vision": 2}, {}),
    "max_lengths": (3, [9], {"text": 0, "audio": 1, "vision": 1}, {}),
    "typical_lengths": (3, {"audio": -1}, {"audio": 1000}, {"smell": 3}),
    "text_config": (3, "bert", [1]),
    "unk_token_id": (-1, *ODD),
    "special_token_ids": (3, None, "a", ("a",), (-1,), (1.5,)),
    **dict.fromkeys(("num_private_experts", "num_shared_experts"), (-1, *ODD)),
    **dict.fromkeys(("disentangler", "fusion", "task_loss", "orthogonality_penalty"), ("other", "", None, 3, ["mse"])),
    "reconstruction_levels": ("input", ("output",), None, 3, [["input"]]),
    **dict.fromkeys(
        ("orthogonality_weight", "reconstruction_weight", "consistency_weight", "complete_weight", "unimodal_weight"),
        (-0.1, math.nan, math.inf, "0.1", None, True),
    ),
    **dict.fromkeys(("detach_target", "sentiment"), ("yes", 1, None)),
    "problem_type": ("other", "multi_label_classification", None, 3),
    "mean_label": (math.nan, math.inf, "8", None, True, [8]),
    "core": (3, "a", [1], {1: 2}),
    "class_shares": (3, "a", [0.0, 1.0], ["a"], [math.nan]),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in RULES for value in WRONG.get(field, COUNTS)], ids=repr
)
def test_a_field_of_the_config_that_does_not_fit_is_named(field, value):
    with pytest.raises(ValueError, match=rf"DerlConfig expected (.* )?{field} .*, got ") as refused:
        DerlConfig(**{field: value})
    assert has_remedy(str(refused.value))


def test_every_field_of_the_config_has_a_rule():
    fields = {name for name, kind in DerlConfig.__annotations__.items() if "ClassVar" not in str(kind)}
    assert fields - {"model_type"} == set(RULES)


@pytest.fixture(scope="module")
def parts():
    """What is right, for one argument at a time to be wrong."""
    config = DerlConfig.smoke(modalities=["audio", "vision"])
    data = make_synthetic(sizes={"train": 4, "valid": 3, "test": 3}, max_lengths={"text": 20, "audio": 12, "vision": 9})
    frames = torch.ones(1, 2, 3)
    return {
        Predictor: {"model": DerlModel(config), "processor": DerlProcessor(config, None)},
        DerlProcessor: {"config": config, "tokenizer": None},
        Collator: {"pad_token_id": 0},
        MissingDataset: {
            "split": data.splits["train"],
            "tokenizer": data.tokenizer,
            "max_lengths": {"text": 20, "audio": 12},
            "modalities": ("text", "audio"),
            "seed": 0,
        },
        Split: {
            "ids": ["a"],
            "text": ["good"],
            "features": {"audio": frames},
            "lengths": {"audio": torch.tensor([2])},
            "labels": torch.ones(1),
        },
    }


@pytest.mark.parametrize(
    ("make", "argument", "values"),
    [
        (Predictor, "model", (None, torch.nn.Linear(2, 2))),
        (Predictor, "processor", (None, 3)),
        (Predictor, "batch_size", COUNTS),
        (DerlProcessor, "config", (None, {}, 3)),
        (DerlProcessor, "tokenizer", (3, "bert")),
        (Collator, "pad_token_id", (None, "[PAD]", 1.5)),
        (MissingDataset, "split", (None, {}, 3)),
        (MissingDataset, "tokenizer", (None, 3)),
        (MissingDataset, "max_lengths", (None, {}, {"text": 0, "audio": 12}, {"text": 2.5, "audio": 12})),
        (MissingDataset, "modalities", (None, "text", (), ("smell",), ("audio", "audio"))),
        (MissingDataset, "seed", (None, "x", 1.5)),
        (MissingDataset, "rate", (1.5, -0.1, math.nan, "x", True, torch.ones(2))),
        (MissingDataset, "available", ("text", ("smell",), 3)),
        (MissingDataset, "corrupted_share", (None, 2, -1, "x")),
        (MissingDataset, "pattern", (None, 3, "holes", "frames+")),
        (Split, "ids", ("a", [1], ("a",))),
        (Split, "text", ("a", [1], [])),
        (Split, "features", (None, [1], {"audio": None}, {"audio": torch.ones(1, 2)})),
        (Split, "lengths", (None, {}, {"audio": None}, {"audio": torch.ones(1)}, {"audio": torch.tensor([3])})),
        (Split, "labels", (None, [1.0], torch.ones(2), torch.tensor([math.nan]))),
    ],
    ids=lambda part: getattr(part, "__name__", "") if isinstance(part, type) else str(part)[:20],
)
def test_a_wrong_argument_is_named(parts, make, argument, values):
    make(**parts[make])
    for value in values:
        with pytest.raises((ValueError, TypeError), match=r"expected .*(got|found) ") as refused:
            make(**parts[make] | {argument: value})
        assert argument in str(refused.value).partition("expected")[2]
        assert has_remedy(str(refused.value)), refused.value


SAMPLE = {"split": "train", "name": "a", "label": 1.0, "features": {"audio": torch.ones(2, 5)}}


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("split", ("dev", None)),
        ("name", (3, None)),
        ("label", ("x", None, math.nan, torch.ones(2))),
        ("text", (3, ["good"])),
        ("features", (None, [1], {"audio": None}, {"audio": np.ones((2, 5))}, {"audio": torch.ones(5)}, {})),
    ],
)
def test_a_sample_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path, argument, values):
    for value in values:
        with (
            pytest.raises(DataError, match=rf"expected .*{argument}.* (got|found) ") as refused,
            ShardWriter(tmp_path / "new") as writer,
        ):
            writer.add(**SAMPLE | {argument: value})
        assert has_remedy(str(refused.value)), refused.value
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "values"),
    [("shard_bytes", COUNTS), ("max_lengths", (3, ["audio"], {"audio": -1}, {"audio": "9"}, {"audio": 2.5}))],
)
def test_a_size_of_shards_that_is_none_is_named(tmp_path, argument, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"ShardWriter expected {argument}.*, got ") as refused:
            ShardWriter(tmp_path / "new", **{argument: value})
        assert has_remedy(str(refused.value)), refused.value
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [load, open_shards, verify_shards, load_splits, load_complete, read_mmsa, load_data])
def test_a_path_that_cannot_be_read_is_named(read, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("nowhere", "nowhere.safetensors", "empty", "folder", "empty/below"):
        cache = (tmp_path / "cache.safetensors",) if read is load_data else ()
        with pytest.raises(DataError, match=f"{tmp_path / name}.*: expected .*, found ") as refused:
            read(tmp_path / name, *cache)
        assert has_remedy(str(refused.value)), refused.value


def test_a_file_without_a_split_is_named(parts, tmp_path):
    save_splits({"train": parts[MissingDataset]["split"]}, tmp_path / "part.safetensors")
    for read in (load_complete, lambda path: load_data(path, tmp_path / "cache")):
        with pytest.raises(DataError, match=r"expected the splits \('train', 'valid', 'test'\), found \('train',\)"):
            read(tmp_path / "part.safetensors")


def test_a_place_that_cannot_be_written_to_is_named(parts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="expected a place to write the splits to"):
        save_splits({"train": parts[MissingDataset]["split"]}, tmp_path / "file" / "splits.safetensors")
