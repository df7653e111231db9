"""What is missing, masked or padding can be anything, nan included: no bit of any answer depends on it."""

import copy

import pytest
import torch
from transformers import BertConfig

from derl.data.collate import Collator
from derl.data.missing import MissingDataset
from derl.data.synthetic import make_synthetic
from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from folding import encoding
from modx import BottleneckEncoder, ModalityRouter
from modx.missing import PATTERNS, drop, erase

MODALITIES = ("text", "audio", "vision")
POISONS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "large": 3e38, "noise": None}
TEXT = BertConfig(vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
SMALL = {"dim": 16, "num_heads": 2, "head_dim": 8, "ffn_dim": 16, "expert_dim": 24, "reconstructor_dim": 16}


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def poisoned(values, hidden, poison):
    """The same tensor with other content where ``hidden`` is True."""
    values = values.clone()
    if values.is_floating_point():
        noise = 100 * torch.randn_like(values)
        values[hidden] = noise[hidden] if POISONS[poison] is None else POISONS[poison]
    else:
        values[hidden] = torch.randint(103, 200, values.shape)[hidden]  # any other word
    return values


def batch(pattern):
    inputs = {
        "text": torch.randint(103, 200, (8, 9)),
        "audio": torch.randn(8, 12, 5),
        "vision": torch.randn(8, 7, 20),
    }
    masks = {
        name: torch.arange(part.shape[1]) < torch.randint(1, part.shape[1] + 1, (8, 1)) for name, part in inputs.items()
    }
    keep = drop(masks, 0.6, pattern, generator=torch.Generator().manual_seed(1))
    return inputs, masks, keep


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_a_prediction_never_sees_what_is_missing(model_class, pattern, modality):
    model = model_class(DerlConfig(text_config=TEXT, **SMALL)).eval()
    inputs, masks, keep = batch(pattern)
    hidden = ~keep[modality]
    assert hidden.any()
    assert keep[modality].any() or pattern in ("modalities", "unequal", "together")
    before = model(inputs, masks, keep)
    gradients = _gradients(model, before)
    assert before.prediction.isfinite().all()
    for poison in ["noise"] if modality == "text" else POISONS:  # a word is no number
        after = model(inputs | {modality: poisoned(inputs[modality], hidden, poison)}, masks, keep)
        assert same_bits(before.prediction, after.prediction), poison
        if before.fusion_weights is not None:
            assert same_bits(before.fusion_weights, after.fusion_weights), poison
        assert all(map(same_bits, gradients, _gradients(model, after))), poison


def _gradients(model, output):
    parameters = [parameter for name, parameter in model.named_parameters() if "reconstructor" not in name]
    return torch.autograd.grad(output.prediction.sum(), parameters)


@pytest.mark.parametrize("how", ["folded", "ordinary"])
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_tokens_never_see_what_is_masked(pattern, modality, how):
    dims = dict(zip(MODALITIES, (4, 5, 6), strict=True))
    lengths = dict(zip(MODALITIES, (9, 12, 7), strict=True))
    module = BottleneckEncoder(dims, 8, num_tokens=2, num_heads=2, head_dim=4, max_lengths=lengths)
    inputs = {name: torch.randn(8, lengths[name], dims[name]) for name in MODALITIES}
    real = {name: torch.ones(8, lengths[name], dtype=torch.bool) for name in MODALITIES}
    keep = drop(real, 0.6, pattern, generator=torch.Generator().manual_seed(1))
    results = []
    for poison in (None, *POISONS):
        leaves = {name: part.clone() for name, part in inputs.items()}
        if poison is not None:
            leaves[modality] = poisoned(leaves[modality], ~keep[modality], poison)
        leaves = {name: part.requires_grad_() for name, part in leaves.items()}
        with encoding(how):
            tokens = module(leaves, keep)
        gradients = torch.autograd.grad(
            sum(part.square().sum() for part in tokens.values()), [*leaves.values(), *module.parameters()]
        )
        results.append((tokens, gradients))
        for name, gradient in zip(MODALITIES, gradients, strict=False):
            assert (gradient[~keep[name]] == 0).all()
    (tokens, gradients), *others = results
    for other_tokens, other_gradients in others:
        assert all(same_bits(tokens[name], other_tokens[name]) for name in MODALITIES)
        assert all(map(same_bits, gradients, other_gradients))


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("absent", MODALITIES)
def test_fusion_never_sees_an_absent_input(absent, poison):
    module = ModalityRouter(MODALITIES, 4, 5, num_views=1)
    inputs = {name: torch.randn(6, 2, 4) for name in MODALITIES}
    present = {name: torch.ones(6, dtype=torch.bool) for name in MODALITIES}
    present[absent] = torch.arange(6) % 2 == 0
    before = module(inputs, present=present)
    inputs[absent] = poisoned(inputs[absent], ~present[absent], poison)
    after = module(inputs, present=present)
    assert same_bits(before.features, after.features)
    assert all(same_bits(before.router_weights[0][name], after.router_weights[0][name]) for name in MODALITIES)


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_erasing_leaves_nothing(pattern, poison):
    mask = torch.ones(8, 12, dtype=torch.bool)
    keep = drop({"audio": mask, "vision": mask}, 0.6, pattern, generator=torch.Generator().manual_seed(1))["audio"]
    values = torch.randn(8, 12, 3)
    assert same_bits(erase(values, keep), erase(poisoned(values, ~keep, poison), keep))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_data_set_and_collator_pass_on_nothing_that_a_model_would_see(pattern):
    """From the samples' own content to the score: other frames and words where the data set says that they are lost."""
    made = make_synthetic(sizes={"train": 6, "valid": 6, "test": 12}, max_lengths={"text": 12, "audio": 9, "vision": 8})
    split, lengths = made.splits["test"], {"text": 14, "audio": 9, "vision": 8}
    text = copy.deepcopy(TEXT)
    text.vocab_size = len(made.tokenizer)
    widths = {name: part.shape[2] for name, part in split.features.items()}
    special = [made.tokenizer.pad_token_id, made.tokenizer.cls_token_id, made.tokenizer.sep_token_id]
    words = {"unk_token_id": made.tokenizer.unk_token_id, "special_token_ids": special}
    model = DerlModel(DerlConfig(text_config=text, input_dims=widths, max_lengths=lengths, **words, **SMALL)).eval()
    dataset = MissingDataset(
        split, made.tokenizer, max_lengths=lengths, modalities=MODALITIES, seed=0, rate=0.5, pattern=pattern
    )
    items = [dataset[index] for index in range(len(dataset))]
    scores = []
    for change in (False, True):
        if change:
            for item in items:
                for name in ("audio", "vision"):
                    item["inputs"][name] = poisoned(item["inputs"][name], ~item["keep"][name], "nan")
                ids, lost = item["inputs"]["text"], ~item["keep"]["text"]
                lost &= ~torch.isin(ids, torch.tensor(special))
                item["inputs"]["text"] = torch.where(lost, (ids + 7).clamp(max=len(made.tokenizer) - 1), ids)
        made_batch = Collator(made.tokenizer.pad_token_id)(items)
        scores.append(model(made_batch["inputs"], made_batch["masks"], made_batch["keep"]).prediction)
    assert any((~item["keep"]["audio"]).any() for item in items)
    assert same_bits(*scores)


def test_a_leak_would_be_seen():
    values, keep = torch.randn(2, 3, 4), torch.tensor([[True, False, True]] * 2)
    leak = values * keep[..., None]  # what a product would do
    assert not same_bits(leak, poisoned(values, ~keep, "nan") * keep[..., None])
