"""What every core of examples/baselines keeps to: nothing masked is read, samples are apart, all parameters learn."""

import ast
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import baselines
from baselines.almt import ALMT
from baselines.cenet import CENET
from baselines.corrkd import CorrKD
from baselines.crossmodal import CrossmodalLayer
from baselines.cube_mlp import CubeMLP
from baselines.dmd import DMD
from baselines.emoe import EMOE
from baselines.lnln import LNLN
from baselines.mctn import MCTN
from baselines.misa import MISA
from baselines.mmim import MMIM
from baselines.self_mm import SelfMM
from baselines.tfr_net import TFRNet
from baselines.transm import TransM

CORES = {
    "lnln": partial(LNLN, dominant="text", dim=8, num_tokens=2, num_heads=2, head_dim=4),
    "dmd": partial(DMD, dim=4, depth=1, num_heads=2),
    "tfr_net": partial(TFRNet, dim=4, depth=1, num_heads=2, gru_depth=2, head_dim=8),
    "misa": partial(MISA, dim=4, ffn_dim=8),
    "emoe": partial(EMOE, dim=4, depth=1, num_heads=2, router_dim=5),
    "mctn": partial(MCTN, dominant="text", dim=4),
    "transm": partial(TransM, dominant="text", dim=4, gru_dim=3, depth=1, decoder_depth=1, num_heads=2),
    "cube_mlp": partial(CubeMLP, length=5, dim=4, sizes=[(4, 5), (3, 4)]),
    "almt": partial(ALMT, dominant="text", dim=8, num_tokens=2, num_heads=2, head_dim=4),
    "corrkd": partial(CorrKD, dim=4, depth=1, num_heads=2),
    "self_mm": partial(SelfMM, num_samples=5, dim=4),
    "mmim": partial(MMIM, dominant="text", dim=8, hidden_dim=12),
    "cenet": partial(CENET, dominant="text"),
}
WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}

every = pytest.mark.parametrize("name", CORES)


def make(name, widths=WIDTHS):
    torch.manual_seed(0)
    core = CORES[name](widths, {key: LENGTHS[key] for key in widths}, 2)
    for module in core.modules():  # one input gives one output
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, CrossmodalLayer):
            module.attention_dropout = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    for parameter in core.parameters():  # equal seeds and zeros hide gradients
        parameter.data += 0.1 * torch.randn_like(parameter)
    return core


def batch():
    generator = torch.Generator().manual_seed(1)
    features = {name: torch.randn(5, LENGTHS[name], width, generator=generator) for name, width in WIDTHS.items()}
    masks = {name: torch.rand(x.shape[:2], generator=generator) < 0.7 for name, x in features.items()}
    masks["audio"][0] = masks["text"][1] = False
    return features, masks


def losses(name, core, features, masks):
    """Every loss of a core in training, the complete input standing in for itself."""
    output = core(features, masks)
    present = {modality: mask.any(1) for modality, mask in masks.items()}
    labels, criterion = torch.tensor([0, 1, 1, 0, 0]), partial(nn.functional.cross_entropy, reduction="none")
    match name:
        case "lnln":
            terms = core.losses(output, core(features, masks).tokens, masks["text"].float().mean(1), present)
        case "dmd":
            terms = core.losses(output.parts, labels, criterion)
        case "tfr_net" | "transm" | "mctn":
            terms = core.losses(output, features, masks)
        case "misa":
            terms = core.losses(output.parts)
        case "emoe":
            errors = {modality: criterion(guess, labels) for modality, guess in output.parts.guesses.items()}
            terms = core.losses(output, errors, errors)
        case "almt" | "cube_mlp" | "cenet":
            terms = {}
        case "corrkd":
            taught = core.teach(features, masks)
            terms = core.losses(output, taught, labels) | {"teacher": taught.prediction.square().sum()}
        case "self_mm":
            signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [-2.0, 2.0], [3.0, 1.0], [2.0, -1.0]])
            for _ in range(2):
                core.remember(output.parts, signs, torch.arange(5))
            terms = core.losses(output.parts, signs, torch.arange(5))
        case "mmim":
            terms = core.losses(output.parts, labels)
    return output.prediction.square().sum() + sum(terms.values())


@every
def test_every_parameter_gets_a_gradient(name):
    core = make(name).train()
    losses(name, core, *batch()).backward()
    assert [key for key, part in core.named_parameters() if part.grad is None or not part.grad.any()] == []


@every
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 3e38])
def test_what_is_masked_reaches_no_loss_and_no_gradient(name, poison):
    features, masks = batch()
    found = []
    for content in (0.0, poison):
        core = make(name).train()
        given = {key: torch.where(masks[key][..., None], x, content) for key, x in features.items()}
        loss = losses(name, core, given, masks)
        found.append([loss, *torch.autograd.grad(loss, list(core.parameters()))])
        found[-1].append(core.eval()(given, masks).prediction)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every
def test_a_sample_is_scored_alone_as_in_a_batch(name):
    core, (features, masks) = make(name).eval(), batch()
    together = core(features, masks).prediction
    for row in range(5):
        alone = core(*({key: x[row : row + 1] for key, x in part.items()} for part in (features, masks))).prediction
        torch.testing.assert_close(alone, together[row : row + 1])


@every
def test_padding_more_changes_nothing(name):
    core, (features, masks) = make(name).eval(), batch()
    shorter = [{key: x[:, :6] for key, x in part.items()} for part in (features, masks)]
    longer = [
        {key: torch.cat([x, torch.full_like(x[:, :1], fill)], dim=1) for key, x in part.items()}
        for part, fill in zip(shorter, (torch.nan, False), strict=True)
    ]
    torch.testing.assert_close(core(*longer).prediction, core(*shorter).prediction)


@every
def test_without_masks_all_is_real(name):
    core, (features, _) = make(name).eval(), batch()
    masks = {key: torch.ones(x.shape[:2], dtype=torch.bool) for key, x in features.items()}
    torch.testing.assert_close(core(features).prediction, core(features, masks).prediction)


@every
def test_two_modalities_will_do(name):
    names = ("vision", "text")
    core = make(name, {key: WIDTHS[key] for key in names})
    assert core(*({key: part[key] for key in names} for part in batch())).prediction.shape == (5, 2)


@every
def test_a_sequence_that_is_too_long_is_refused(name):
    features, _ = batch()
    features["audio"] = torch.randn(5, 10, 5)
    with pytest.raises(ValueError, match="expected at most 9 frames of 'audio', got 10; truncate it"):
        make(name)(features)


def test_no_core_imports_the_sentiment_example():
    for path in Path(baselines.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "derl" for name in names), path.name
