"""Whatever a checkpoint lacks is drawn as for a new model; raw memory is filled with NaN, so that it shows."""

import logging
from itertools import chain

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_text
from torch import nn

from derl import MODELS, DerlConfig, PlainModel

LENGTHS = {"text": 9, "audio": 12, "vision": 7}
SHIFT = 100  # of every saved number: nothing that is drawn comes near

every = pytest.mark.parametrize("model_class", MODELS.values(), ids=MODELS)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill memory that nothing has written with NaN, or with the largest integer."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


class Checkpoint:
    """A saved model, and what it leaves when some of its tensors are lost."""

    def __init__(self, model_class, folder):
        self.model_class, self.file, self.folder = model_class, folder / "model.safetensors", folder
        core = dict(model_class.smoke) | ({"num_samples": 3} if model_class.remembers else {})
        config = DerlConfig.smoke(text_config=tiny_text(layers=1), max_lengths=LENGTHS, core=core)
        self.model = model_class(config)
        self.model.save_pretrained(folder)
        self.saved = {name: part + SHIFT for name, part in load_file(self.file).items()}

    def check(self, lost):
        """Load without the tensors ``lost``, name -> what the file has instead or None."""
        kept = {name: part for name, part in (self.saved | lost).items() if part is not None}
        save_file(kept, self.file, {"format": "pt"})
        loaded = self.model_class.from_pretrained(self.folder, ignore_mismatched_sizes=True)
        fresh = tensors(self.model)
        for name, part in tensors(loaded).items():
            if name in self.saved and name not in lost:
                assert torch.equal(part, self.saved[name]), name
            elif not part.is_floating_point() or part.numel() == 1:
                assert torch.equal(part, fresh[name]) or 0 < part.abs() < 2, name
            else:
                assert part.isfinite().all(), name
                assert part.abs().max() <= 3 * fresh[name].abs().max() + 0.5, name


def tensors(model):
    """Every parameter and buffer, also those that are not saved."""
    return {name: part.detach() for name, part in chain(model.named_parameters(), model.named_buffers())}


def one_of_each_module(names):
    """Yield sets of names that cover all of them; in each, a module lacks one tensor and has the others."""
    places = {}
    for name in names:
        places.setdefault(name.rpartition(".")[0], []).append(name)
    for place in range(max(map(len, places.values()))):
        yield [owned[place] for owned in places.values() if place < len(owned)]


@every
@pytest.mark.parametrize("other_shape", [False, True], ids=["missing", "of another shape"])
def test_no_tensor_that_a_checkpoint_lacks_is_raw_memory(model_class, other_shape, tmp_path, caplog):
    caplog.set_level(logging.ERROR)  # transformers' table of what is missing
    checkpoint = Checkpoint(model_class, tmp_path)
    sets = list(one_of_each_module(checkpoint.saved))
    assert {name for lost in sets for name in lost} == checkpoint.saved.keys()
    for lost in sets:
        checkpoint.check({name: larger(checkpoint.saved[name]) if other_shape else None for name in lost})


def larger(part):
    return part.new_full([size + 1 for size in part.shape] or [2], SHIFT)


@every
def test_nor_is_anything_after_all_of_it_was_lost(model_class, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    checkpoint = Checkpoint(model_class, tmp_path)
    checkpoint.check(dict.fromkeys([name for name in checkpoint.saved if name != "feature_mean"]))


class Seeded(PlainModel):
    """Parameters as a user may write them: the model's own, and those of a layer that cannot be reset."""

    def __init__(self, config):
        super().__init__(config)
        self.seed = nn.Parameter(0.02 * torch.randn(4, 8))
        self.layer = nn.ParameterList([nn.Parameter(torch.full((3,), 7.0))])
        self.register_buffer("steps", torch.arange(5), persistent=False)


def test_parameters_of_a_users_own_model_are_drawn_by_its_constructor(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    checkpoint = Checkpoint(PlainModel, tmp_path)
    checkpoint.model_class, checkpoint.model = Seeded, Seeded(checkpoint.model.config)
    checkpoint.check({})
    assert torch.equal(Seeded.from_pretrained(tmp_path).layer[0], torch.full((3,), 7.0))
