"""Training steps of DERL with its text encoder on real data, with and without what saves padding."""

from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from derl.model import by_length
from derl.train.options import Options, fill_in
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import make_optimizer


def make_real_steps(data: str, text_encoder: str, batch_size: int = 64) -> dict[str, Callable[[], Tensor]]:
    """Return two ways to take a training step on the first samples, after asserting that their losses agree.

    "modx" encodes text by length and takes a fused AdamW step. "padded" runs the encoder once, on the whole padded
    batch, and AdamW parameter by parameter. Dropout is off, so that both compute the same function.
    """
    options = fill_in(Options(data=data, text_encoder=text_encoder, batch_size=batch_size))
    steps = {}
    for name in ("padded", "modx"):
        with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            setup = Setup.build(options, RunFolder(Path(folder)))
            dataset = setup.dataset("train")
            batch = setup.collator([dataset[index] for index in range(batch_size)])
        drop_nothing(setup.model)
        optimizer = make_optimizer(setup.model.train(), options)
        optimizer = by_parameter(optimizer) if name == "padded" else optimizer
        steps[name] = partial(_step, setup.model, batch, optimizer, pads=name == "padded")
    torch.testing.assert_close(steps["modx"](), steps["padded"](), rtol=1e-4, atol=0)
    return steps


def drop_nothing(model: nn.Module) -> None:
    """Switch dropout off."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def by_parameter(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the same optimizer, neither fused nor over many tensors at once."""
    groups = [{**group, "fused": False} for group in optimizer.param_groups]
    return type(optimizer)(groups, foreach=False)


def _step(model: nn.Module, batch: dict[str, Any], optimizer: torch.optim.Optimizer, pads: bool) -> Tensor:
    optimizer.zero_grad()
    with patch.object(by_length, "_may_sort", (lambda *_: False) if pads else by_length._may_sort):
        loss: Tensor = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss.detach()
