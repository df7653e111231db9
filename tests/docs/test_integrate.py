"""The modules on the page "In your own training code" train in the code they are made for."""

import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn

PAGE = Path(__file__).parents[2] / "docs" / "integrate.md"


def load(name):
    """Run one file of the page, and return what it defines."""
    code = re.search(rf"```python\n(# {name}\n.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    defined = {}
    exec(compile(code, name, "exec"), defined)
    return defined


def with_gradient(module):
    return {name for name, parameter in module.named_parameters() if parameter.grad is not None}


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_trains_on_ragged_samples_with_holes(tmp_path):
    pl = pytest.importorskip("pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    module = load("lightning_module.py")
    torch.manual_seed(0)
    labels = torch.randn(64)
    samples = [
        {"audio": None if row % 3 == 0 else label + torch.randn(5 + row % 4, 8), "vision": label + torch.randn(3, 16)}
        for row, label in enumerate(labels)
    ]
    model = module["Fusion"]({"audio": 8, "vision": 16}, {"audio": 8, "vision": 3})
    settings = {"batch_size": 16, "num_workers": 0}
    train, valid = (module["loader"](samples, labels, **settings) for _ in range(2))
    trainer = pl.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    before = trainer.validate(model, valid, verbose=False)[0]["valid_error"]
    trainer.fit(model, train)
    assert trainer.validate(model, valid, verbose=False)[0]["valid_error"] < 0.7 * before


@pytest.mark.parametrize("shapes", [((6, 32), (6, 48)), ((6, 9, 32), (6, 4, 48)), ((6, 32), (6, 9, 48))])
def test_multibenchs_fusion_takes_vectors_and_sequences(shapes):
    fusion = load("multibench_fusion.py")["Fusion"]([32, 48], max_length=9)
    head = nn.Linear(64, 3)
    scores = head(fusion([torch.randn(shape) for shape in shapes]))  # as MMDL does
    (nn.functional.cross_entropy(scores, torch.randint(3, (6,))) + sum(fusion.losses)).backward()
    assert with_gradient(fusion) == set(dict(fusion.named_parameters()))


def test_lnlns_fusion_takes_its_eight_tokens_per_modality():
    fusion = load("lnln_fusion.py")["Fusion"]()
    scores = fusion(*(torch.randn(6, 8, 128) for _ in range(3)))
    assert scores.shape == (6, 1)  # as LNLN's own "sentiment_preds"
    scores.square().mean().backward()
    assert with_gradient(fusion) == set(dict(fusion.named_parameters()))
