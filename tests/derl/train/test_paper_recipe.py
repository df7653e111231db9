"""The paper's settings, typed once from section 4.2 and appendix A, against configs, options and the trainer."""

import pytest
import torch
from transformers import BertConfig

from derl.data.collate import Collator
from derl.data.missing import MissingDataset
from derl.data.synthetic import make_synthetic
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.train.departures import announce, departures
from derl.train.options import parse
from derl.train.trainer import SentimentTrainer, make_trainer
from modx.losses import ReconstructionLoss

SIZES = {  # MOSI, MOSEI
    "dim": (128, 128),
    "num_tokens": (4, 8),
    "num_private_experts": (1, 3),
    "num_shared_experts": (3, 3),
    "encoder_depth": (1, 1),
    "fusion_depth": (2, 2),
    "input_dims": ({"audio": 5, "vision": 20}, {"audio": 74, "vision": 35}),
    "max_lengths": ({"text": 50, "audio": 375, "vision": 500}, {"text": 50, "audio": 500, "vision": 500}),
}
LOSSES = {"orthogonality_weight": 1, "reconstruction_weight": 1, "task_loss": "mse", "orthogonality_penalty": "cosine"}
TRAINING = {"epochs": 200, "batch_size": 64, "learning_rate": 1e-4, "text_learning_rate": 1e-4}
CORRUPTION = {"corrupted_share": 0.5, "train_pattern": "frames", "train_rate": None, "corrupt_by": "sample"}
SELECTION = {"select_rates": [0.5], "select_metric": "mae"}
EXTRAS = {"average_decay": 0, "consistency_weight": 0, "complete_weight": 0, "standardize": False, "max_grad_norm": 0}
LNLN = {"weight_decay": 1e-4, "warmup": 0.1}  # where the paper is silent


@pytest.mark.parametrize(("preset", "config"), [(0, DerlConfig), (1, DerlConfig.mosei)], ids=["mosi", "mosei"])
def test_a_config_holds_the_papers_sizes_and_losses(preset, config):
    config = config(text_config=BertConfig())
    assert {name: getattr(config, name) for name in SIZES} == {name: sizes[preset] for name, sizes in SIZES.items()}
    assert {name: getattr(config, name) for name in LOSSES} == LOSSES
    assert not config.detach_target


def test_the_papers_recipe_on_a_file_means_the_papers_settings():
    options = parse(["--data", "unaligned_50.pkl", "--recipe", "paper"])
    expected = LOSSES | TRAINING | CORRUPTION | SELECTION | EXTRAS | LNLN
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.text_encoder == "bert-base-uncased"
    assert departures(options) == ["warmup 0.1 (LNLN's) instead of 0"]
    assert options == parse(["--data", "unaligned_50.pkl"])


def test_the_trainer_anneals_by_a_cosine_with_adamw_and_clips_nothing(tmp_path):
    made = make_synthetic(sizes={"train": 8, "valid": 4, "test": 4}, max_lengths={"text": 9, "audio": 7, "vision": 6})
    lengths, names = {"text": 9, "audio": 7, "vision": 6}, ("text", "audio", "vision")
    data = MissingDataset(made.splits["train"], made.tokenizer, max_lengths=lengths, modalities=names, seed=0)
    text = BertConfig(
        vocab_size=len(made.tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = DerlModel(DerlConfig.smoke(text_config=text))
    options = parse(["--data", "unaligned_50.pkl"])
    trainer = make_trainer(SentimentTrainer, model, Collator(0), data, [data], options, tmp_path)
    assert isinstance(trainer.create_optimizer(), torch.optim.AdamW)
    arguments = trainer.args
    assert (arguments.lr_scheduler_type, arguments.num_train_epochs) == ("cosine", 200)
    assert (arguments.learning_rate, arguments.per_device_train_batch_size) == (1e-4, 64)
    assert (arguments.max_grad_norm, arguments.warmup_steps) == (0, 0.1)


def test_a_run_says_how_long_it_is_and_where_it_departs():
    assert announce(parse(["--data", "a.pkl"])) == (
        "Training for 200 epochs, as in the paper; --epochs shortens it. Departs from the paper's recipe in: "
        "warmup 0.1 (LNLN's) instead of 0."
    )
    assert announce(parse(["--data", "a.pkl", "--warmup", "0"])).endswith(
        "Departs from the paper's recipe in: nothing."
    )
    assert announce(parse(["--data", "a.pkl", "--epochs", "1", "--text_encoder", "models/minilm"])) == (
        "Training for 1 epoch. Departs from the paper's recipe in: text encoder minilm instead of bert-base-uncased; "
        "epochs 1 instead of 200; warmup 0.1 (LNLN's) instead of 0."
    )
    robust = announce(parse(["--recipe", "robust"]))
    assert "orthogonality_weight 0.1 instead of 1" in robust
    assert "reconstruction_weight 0.1 instead of 1" in robust
    assert "train_pattern frames+bursts+block+modalities instead of frames" in robust
    assert "standardize True instead of False" in robust


@pytest.mark.parametrize(("preset", "private"), [("mosi", "1"), ("mosei", "3")])
def test_the_papers_own_numbers_are_no_departure(preset, private):
    arguments = ["--data", "a.pkl", "--preset", preset, "--num_private_experts", private, "--num_shared_experts", "3"]
    arguments += ["--warmup", "0"]
    assert departures(parse(arguments)) == []
    assert departures(parse([*arguments, "--train_rate", "0.5"])) == [
        "train_rate 0.5 instead of one drawn from U(0, 1)"
    ]


def test_equation_18_by_hand(monkeypatch):
    model = DerlModel(DerlConfig.smoke(text_config=BertConfig(vocab_size=130, hidden_size=16, num_attention_heads=2)))
    parts = ReconstructionLoss(*map(torch.tensor, (4.5, 3.0, 7.5, 3.0)))  # a third of 3 + 7.5 + 3
    monkeypatch.setattr("modx.model.orthogonality_loss", lambda *views, **options: torch.tensor(-0.75))
    monkeypatch.setattr("modx.model.reconstruction_loss", lambda *views, **options: parts)
    monkeypatch.setattr(model, "task_loss", lambda prediction, labels: torch.tensor(2.0))
    inputs = {"text": torch.full((2, 3), 105), "audio": torch.randn(2, 4, 5), "vision": torch.randn(2, 4, 20)}
    assert model.train()(inputs, labels=torch.zeros(2)).loss.item() == 2.0 - 0.75 + 4.5


def test_the_run_without_arguments_is_short_and_departs_in_data_length_learning_rates_and_warmup_alone():
    assert [line.split(" instead")[0] for line in departures(parse([]))] == [
        "synthetic data",
        "text encoder (small, trained from scratch)",
        "epochs 15",
        "learning_rate 0.0002",
        "text_learning_rate 0.001",
        "warmup 0.1 (LNLN's)",
    ]
