"""The optimizer and the learning rate of a run."""

import math

import pytest
import torch

from derl.evaluate.conditions import Condition
from derl.train.options import parse
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, make_trainer

EPOCHS = 100  # of one step each, so that a rate that changes by epochs and one that changes by steps are the same


def test_adamw_rises_for_a_tenth_of_the_epochs_and_falls_along_a_cosine(tmp_path):
    options = parse(["--preset", "smoke", "--epochs", str(EPOCHS), "--batch_size", "64", "--learning_rate", "1e-4"])
    setup = Setup.build(options, RunFolder(tmp_path))
    valid = [setup.dataset("valid", Condition("r=0.5", rate=0.5))]
    trainer = make_trainer(
        SentimentTrainer, setup.model, setup.collator, setup.dataset("train"), valid, options, tmp_path
    )
    trainer.create_optimizer_and_scheduler(EPOCHS)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    own = {id(parameter) for name, parameter in setup.model.named_parameters() if "text_encoder" not in name}
    (group, *_) = [g for g in trainer.optimizer.param_groups if id(g["params"][0]) in own]
    rates = []
    for _ in range(EPOCHS):
        rates.append(group["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    start = EPOCHS // 10
    for epoch, rate in enumerate(rates):
        share = epoch / start if epoch < start else (1 + math.cos(math.pi * (epoch - start) / (EPOCHS - start))) / 2
        assert rate == pytest.approx(1e-4 * share, abs=3e-6)
