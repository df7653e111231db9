"""What is absent is never read and never learned, by the whole models and by what stands in for their blocks."""

import pytest
import torch
from steps import assert_absent_content_changes_nothing, step
from tiny import tiny_text

from derl.model.ablation import MeanFusion, MlpDisentangler
from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel

SMALL = {"dim": 16, "num_heads": 2, "head_dim": 8, "ffn_dim": 16, "expert_dim": 24, "reconstructor_dim": 16}
ABLATIONS = (
    {},
    {"dropped_modality": "absent"},
    {"disentangler": "mlp"},
    {"fusion": "mean"},
    {"complete_weight": 0.5, "consistency_weight": 0.5},
)


def make(model_class, dtype=torch.float32, **overrides):
    torch.manual_seed(0)
    return model_class(DerlConfig(text_config=tiny_text(), **(SMALL | overrides))).to(dtype)


def batch(dtype=torch.float32):
    inputs = {
        "text": torch.randint(103, 130, (6, 9)),
        "audio": torch.randn(6, 12, 5, dtype=dtype),
        "vision": torch.randn(6, 7, 20, dtype=dtype),
    }
    masks = {name: torch.rand(part.shape[:2]) < 0.7 for name, part in inputs.items()}
    for row, name in enumerate(masks):  # each modality is absent from one sample, and the last has none
        masks[name][[row, 5]] = False
    keep = {name: mask & (torch.rand(mask.shape) < 0.6) for name, mask in masks.items()}
    return inputs, masks, keep, torch.linspace(-3, 3, 6, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dropping", [True, False])
@pytest.mark.parametrize(
    ("model_class", "overrides"), [*((DerlModel, changes) for changes in ABLATIONS), (PlainModel, {})], ids=str
)
def test_absent_content_reaches_no_answer_loss_or_gradient(model_class, overrides, dropping, dtype):
    model = make(model_class, dtype, **overrides)
    inputs, masks, keep, labels = batch(dtype)
    keep = keep if dropping else None
    inputs["text"] = inputs["text"].masked_fill(~masks["text"], 7)
    assert_absent_content_changes_nothing(model, inputs, masks, keep, labels)


@pytest.mark.parametrize("left_out", [("text",), ("audio",), ("audio", "vision"), ("text", "audio")])
@pytest.mark.parametrize("dropping", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_left_out_is_none_is_masked(model_class, training, dropping, left_out):
    model = make(model_class).train(training)
    inputs, masks, keep, labels = batch()
    for name in left_out:
        masks[name][:] = False
        keep[name][:] = False
    keep = keep if dropping else None
    expected = step(model, inputs, masks, keep, labels)

    def rest(parts):
        return None if parts is None else {name: part for name, part in parts.items() if name not in left_out}

    for given in (rest(inputs), inputs | dict.fromkeys(left_out)):
        for mask, kept in ((masks, keep), (rest(masks), rest(keep))):
            torch.testing.assert_close(step(model, given, mask, kept, labels), expected)


def test_masks_are_optional_for_what_is_left():
    model = make(DerlModel).eval()
    inputs, *_ = batch()
    output = model({"audio": inputs["audio"]})
    masks = {name: torch.full(part.shape[:2], name == "audio") for name, part in inputs.items()}
    torch.testing.assert_close(output.prediction, model(inputs, masks).prediction)
    assert output.fusion_weights.shape == (6, 4, 6)
    assert not output.fusion_weights[..., [0, 2, 3, 5]].any()


@pytest.mark.parametrize("module", [MlpDisentangler(("audio", "text"), 8, 16), MeanFusion()], ids=type)
def test_what_stands_in_for_a_block_does_not_read_what_is_absent(module):
    views = [{name: torch.randn(3, 4, 8) for name in ("text", "audio")} for _ in range(2)]
    present = {"text": torch.tensor([True, True, False]), "audio": torch.tensor([True, False, False])}
    results = []
    for content in (0, torch.nan):
        parts = [
            {
                name: torch.where(present[name][:, None, None], part, content).requires_grad_()
                for name, part in view.items()
            }
            for view in views
        ]
        outputs = module(*parts[: 2 if isinstance(module, MeanFusion) else 1], present=present)
        outputs = [outputs.features] if isinstance(module, MeanFusion) else [*outputs.private.values()]
        leaves = [*parts[0].values(), *module.parameters()]
        results.append([*outputs, *torch.autograd.grad(sum(part.sin().sum() for part in outputs), leaves)])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
