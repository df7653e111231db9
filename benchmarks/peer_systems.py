"""The systems that ``peers.py`` times: where each one's code is, and how its own training loop is started.

Their code is not in this repository: it is imported from checkouts, which stay as they are. From outside, each text
encoder is replaced by given states, and what a CPU or a current PyTorch refuses is replaced too. Settings are those of
each system's configuration for CMU-MOSI, unaligned, with an optimizer step on every batch.

A start changes modules for the whole process, and some systems share names, so every system needs its own process.
"""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from training_step import BATCH_SIZE, Batch, TrainingStep, make_config


@dataclass
class Training:
    """A model, and the loop that takes a training step on every batch.

    ``run`` is called with the batches: an iterable, whose attribute ``batch`` serves for validation between epochs.
    """

    model: nn.Module
    run: Callable[[Any], object]


Start = Callable[[Path, Batch], Training]


@dataclass(frozen=True)
class Repository:
    """A repository at a commit, and the name of its folder among the checkouts."""

    folder: str
    address: str
    commit: str


@dataclass(frozen=True)
class System:
    """A system to be timed.

    Attributes:
        start: builds the training, from the path of the checkout and a batch of ``training_step.py``.
        repository: None for what is in this one.
        batch_size: samples per step.
        untimed_passes: passes over the data before the timed ones.
        timed_passes: passes that together take one step on every batch.
        untimed_steps: steps that are not timed, at the beginning of each timed pass.
        note: what a reader must know to compare.
    """

    start: Start
    repository: Repository | None = None
    batch_size: int = BATCH_SIZE
    untimed_passes: int = 0
    timed_passes: int = 1
    untimed_steps: int = 1
    note: str = ""


def start_plain(_: Path, batch: Batch) -> Training:
    step = TrainingStep("plain")
    return Training(step.model, lambda batches: [step(batch) for _ in batches])


def start_lnln(checkout: Path, batch: Batch) -> Training:
    config = checkout / "configs/train_mosi.yaml"
    program = import_program(checkout, config)
    give_states("models.bert", batch)
    settings = yaml.safe_load(config.read_text())
    model, base = program.build_model(settings), settings["base"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=base["lr"], weight_decay=base["weight_decay"])
    loss = program.MultimodalLoss(settings)
    return Training(model, lambda batches: program.train(model, batches, optimizer, loss, 1, None))


def start_almt(checkout: Path, batch: Batch) -> Training:
    replace_absent("tensorboardX", SummaryWriter=None)
    program = import_program(checkout, checkout / "configs/mosi.yaml")
    give_states("models.bert", batch)
    model, base = program.build_model(program.args), program.args.base
    optimizer = torch.optim.AdamW(model.parameters(), lr=base.lr, weight_decay=base.weight_decay)
    return Training(model, lambda batches: program.train(model, batches, optimizer, nn.MSELoss(), None))


def start_dmd(checkout: Path, batch: Batch) -> Training:
    def stay(tensor: Tensor) -> Tensor:
        return tensor

    torch.Tensor.cuda = stay  # its losses move constants to a GPU
    settings, model, trainer = import_trainer(checkout, "dmd", batch)
    trainer.cosine = cosine_of_three
    width = settings.dst_feature_dim_nheads[0]
    # its run.py holds these figures
    shared = {"n_classes": 1, "to_idx": [0, 1, 2], "from_idx": [0, 1, 2], "gd_reg": 10, "w_losses": [1, 10]}
    shared |= {"metric": "l1", "alpha": 1 / 8, "hyp_params": settings}
    softmax = importlib.import_module("trains.singleTask.misc").softmax
    kernel = "trains.singleTask.distillnets.get_distillation_kernel"
    homogeneous = importlib.import_module(f"{kernel}_homo").DistillationKernel(
        hidden_size=width, gd_size=64, gd_prior=softmax([0, 0, 1, 0, 1, 0], 0.25), **shared
    )
    heterogeneous = importlib.import_module(kernel).DistillationKernel(
        hidden_size=2 * width, gd_size=32, gd_prior=softmax([0, 0, 1, 0, 1, 1], 0.25), **shared
    )
    models = nn.ModuleList([model, homogeneous, heterogeneous])
    return Training(models, lambda batches: trainer.do_train(models, {"train": batches}))


def cosine_of_three(x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the cosine embedding loss of tensors of three dimensions, along the second, as PyTorch once did."""
    rows_of_x, rows_of_y = (part.transpose(1, 2).flatten(0, 1) for part in (x, y))
    return F.cosine_embedding_loss(rows_of_x, rows_of_y, target.expand(len(rows_of_x)))


def start_emoe(checkout: Path, batch: Batch) -> Training:
    _, model, trainer = import_trainer(checkout, "emoe", batch)
    return Training(model, lambda batches: trainer.do_train(model, {"train": batches}))


def in_mmsa(package: str, name: str) -> Start:
    """Return the start of a system that MMSA holds under this name, in this package of models and trainers."""

    def start(checkout: Path, batch: Batch) -> Training:
        root = checkout / "src/MMSA"
        for folder in (root, *(root / kind / inner for kind in ("models", "trains") for inner in ("", package))):
            skip_init(".".join(folder.relative_to(root.parent).parts), folder)
        accept_old_pytorch()
        settings = read_settings(root / "config/config_regression.json", name.lower())
        give_states("MMSA.models.subNets.BertTextEncoder", batch)
        model = Holder(getattr(importlib.import_module(f"MMSA.models.{package}.{name}"), name)(settings))
        trainer = getattr(importlib.import_module(f"MMSA.trains.{package}.{name}"), name)(settings)
        return Training(model, lambda batches: trainer.do_train(model, {"train": batches, "valid": [batches.batch]}))

    return start


class Holder(nn.Module):
    """A model as the attribute ``Model``, where MMSA's trainers look for it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.Model = model

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.Model(*inputs, **options)


MMSA = Repository("MMSA", "https://github.com/thuiar/MMSA", "a94e65d07fa1ae0d44e552390074b29b0898edfd")
SYSTEMS = {
    "plain": System(start_plain, note="DERL composed of torch's own layers (`plain_derl.py`)."),
    "LNLN": System(
        start_lnln,
        Repository("LNLN", "https://github.com/Haoyu-ha/LNLN", "80a052c62b7b3b7a6cb6956846e9d9c121f56eda"),
    ),
    "ALMT": System(
        start_almt,
        Repository("ALMT", "https://github.com/Haoyu-ha/ALMT", "da9461071f21e75eb8bf2bedff14ac23f5954605"),
    ),
    "DMD": System(
        start_dmd,
        Repository("DMD", "https://github.com/mdswyz/DMD", "516d4e116c22220e08873fa38df828d1a0d6f7e8"),
        batch_size=16,
        note="Batch 16, that of its configuration, for both: 64 would take about 30 GiB.",
    ),
    "EMOE": System(
        start_emoe,
        Repository("EMOE", "https://github.com/fuyyyyy/EMOE", "c4759c748105e18354cd9082b1d8c6d310f1f9d8"),
    ),
    "TFR-Net": System(
        in_mmsa("missingTask", "TFR_NET"),
        MMSA,
        batch_size=24,
        untimed_passes=1,
        untimed_steps=0,
        note="Batch 24, that of its configuration, for both: 64 takes more than 14 GiB. Its second epoch, as the "
        "reconstruction has no gradient in the first. Its loop takes the optimizer's step twice.",
    ),
    "MISA": System(
        in_mmsa("singleTask", "MISA"),
        MMSA,
        untimed_passes=1,
        note="Reads only as many frames of audio and vision as there are tokens: 50 of 375 and 500.",
    ),
    "MMIM": System(
        in_mmsa("singleTask", "MMIM"),
        MMSA,
        untimed_passes=2,
        timed_passes=2,
        untimed_steps=2,
        note="An epoch passes over the data twice: a step here is one of each pass.",
    ),
    "Self-MM": System(
        in_mmsa("multiTask", "SELF_MM"),
        MMSA,
        untimed_passes=2,
        note="Its second epoch, from which it updates its unimodal labels.",
    ),
}


def to_peer_batch(batch: Batch) -> Batch:
    """Convert a batch of ``training_step.py`` to the names that the systems' loops read.

    Token ids are ones: masks and lengths are read from them. Names that end in ``_m`` are the incomplete inputs, with
    zeros for dropped frames.
    """
    inputs, masks, keep = batch["inputs"], batch["masks"], batch["keep"]
    size, tokens = masks["text"].shape
    ids = torch.ones(size, 3, tokens)
    missing = 1 - keep["text"].float().mean(1, keepdim=True)
    peer: Batch = {
        "text": ids,
        "text_m": ids,
        "text_missing_mask": keep["text"].float(),
        "labels": {"M": batch["labels"][:, None], "missing_rate_l": missing},
        "index": torch.arange(size),
        "id": [str(index) for index in range(size)],
    }
    for name in ("audio", "vision"):
        peer |= {
            name: inputs[name],
            f"{name}_m": inputs[name] * keep[name][..., None],
            f"{name}_mask": masks[name].float(),
            f"{name}_missing_mask": keep[name].float(),
            f"{name}_lengths": masks[name].sum(1),
        }
    return peer


class Settings(dict[str, Any]):
    """A configuration whose entries are also attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def read_settings(path: Path, system: str) -> Settings:
    """Return a system's settings for unaligned CMU-MOSI, from the JSON file that MMSA and its descendants share."""
    everything = json.loads(path.read_text())
    own = everything[system]
    settings = Settings(everything["datasetCommonParams"]["mosi"]["unaligned"])
    settings |= own["commonParams"] | own["datasetParams"]["mosi"]
    settings |= {"model_name": system, "dataset_name": "mosi", "train_mode": "regression", "need_data_aligned": False}
    settings |= {"device": torch.device("cpu"), "update_epochs": 1, "cur_seed": 1, "model_save_path": os.devnull}
    settings["seq_lens"] = [make_config().max_lengths[name] for name in ("text", "audio", "vision")]
    return settings


def give_states(module: str, batch: Batch) -> None:
    """Make a module's ``BertTextEncoder`` an encoder without parameters that returns the batch's text states."""
    encoder = importlib.import_module(module).BertTextEncoder
    encoder.__init__ = lambda self, *_, **__: nn.Module.__init__(self)
    encoder.forward = lambda self, text: batch["inputs"]["text"]


def import_program(checkout: Path, config: Path) -> ModuleType:
    """Import a checkout's ``train.py``, which reads the command line and chooses a device as it is imported."""
    sys.path.insert(0, str(checkout))
    arguments, sys.argv = sys.argv, ["train.py", "--config_file", str(config)]
    try:
        program = importlib.import_module("train")
    finally:
        sys.argv = arguments
    program.device = torch.device("cpu")
    return program


def import_trainer(checkout: Path, system: str, batch: Batch) -> tuple[Settings, nn.Module, Any]:
    """Import a descendant of MMSA with one system; return its settings, its model and its trainer."""
    sys.path.insert(0, str(checkout))
    accept_old_pytorch()
    settings = read_settings(checkout / "config/config.json", system)
    give_states("trains.subNets.BertTextEncoder", batch)
    model = getattr(importlib.import_module(f"trains.singleTask.model.{system}"), system.upper())(settings)
    return settings, model, importlib.import_module("trains").ATIO().getTrain(settings)


def accept_old_pytorch() -> None:
    """Let schedulers take ``verbose``, which PyTorch removed; do without NVIDIA's library of GPU counters."""
    schedulers = torch.optim.lr_scheduler

    class ReduceLROnPlateau(schedulers.ReduceLROnPlateau):
        def __init__(self, *arguments: Any, verbose: bool = False, **options: Any) -> None:
            super().__init__(*arguments, **options)

    schedulers.ReduceLROnPlateau = ReduceLROnPlateau
    replace_absent("pynvml")


def replace_absent(name: str, **attributes: Any) -> None:
    """Register an empty module with these attributes, where none of this name is installed."""
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(attributes)


def skip_init(name: str, folder: Path) -> None:
    """Register a package without its ``__init__.py``, which would import every system and what they need."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
