"""One process uses one GPU, however many there are."""

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from derl.evaluate.conditions import Condition
from derl.train.options import parse
from derl.train.processes import use_one_gpu
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, make_trainer


@pytest.fixture
def gpus(monkeypatch):
    """Let transformers count GPUs that are not there."""

    def count(number):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: number > 0)

    return count


def test_transformers_would_use_all_of_them(gpus, tmp_path):
    gpus(2)
    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=8)
    assert (arguments.n_gpu, arguments.train_batch_size) == (2, 16)


@pytest.mark.parametrize("number", [0, 1, 2, 8])
def test_the_batch_stays_and_the_rest_is_said(gpus, tmp_path, capsys, number):
    gpus(number)
    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=8)
    use_one_gpu(arguments)
    assert arguments.n_gpu <= 1
    assert arguments.train_batch_size == arguments.eval_batch_size == 8
    said = capsys.readouterr().out
    assert said == (
        f"using one of {number} GPUs; to use all of them, start with torchrun --nproc-per-node {number}\n"
        "  instead of python\n"
        if number > 1
        else ""
    )


def test_the_trainer_wraps_nothing(gpus, smoke_run, tmp_path, capsys):
    folder = RunFolder(smoke_run)
    options = folder.restore(parse(["--evaluate", str(smoke_run)]))
    setup = Setup.build(options, folder)
    gpus(2)
    valid = [setup.dataset("valid", Condition("r=0.5", rate=0.5))]
    train = setup.dataset("train")
    trainer = make_trainer(SentimentTrainer, setup.model, setup.collator, train, valid, options, tmp_path)
    assert "using one of 2 GPUs" in capsys.readouterr().out
    assert not isinstance(trainer._wrap_model(trainer.model), nn.DataParallel)
    assert trainer.args.train_batch_size == options.batch_size
    assert len(trainer.get_train_dataloader()) == -(-len(train) // options.batch_size)
