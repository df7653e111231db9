"""A text encoder on rows of like length gives what it gives on the whole batch, from fewer tokens."""

from itertools import combinations, pairwise

import pytest
import torch
from tiny import tiny_text
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import BertModel
from transformers.utils import ModelOutput

from derl.model import by_length, sentiment
from derl.model.baseline import PlainModel
from derl.model.by_length import encode_by_length
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel

SIZE, LENGTH = 24, 40
TEXT = tiny_text()


def make_encoder():
    return BertModel(TEXT, add_pooling_layer=False).eval()


def make_batch(kind="prefix"):
    """Rows of 1 to 40 tokens in no order, few of them long."""
    lengths = (LENGTH * torch.rand(SIZE).square()).long() + 1
    lengths[5] = LENGTH
    mask = torch.arange(LENGTH) < lengths[:, None]
    match kind:
        case "holes":
            mask &= torch.rand(mask.shape) > 0.4
        case "empty rows":
            mask[::2] = False
            mask[1::2, :12] = True  # so long that the empty rows have a call of their own
        case "nothing":
            mask[:] = False
    return torch.randint(3, TEXT.vocab_size, mask.shape), mask


def make_distinct(ids, mask):
    """Begin every row with a token of its own, since equal rows are encoded once."""
    mask[:, 0] = True
    ids[:, 0] = torch.arange(len(ids))


def encode_whole(encoder, ids, mask):
    return encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state


def record(encoder):
    """The masks that the encoder is called with, filled as it is called."""
    masks = []
    encoder.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    return masks


def states_and_gradients(encode, encoder, ids, mask):
    encoder.zero_grad()
    states = torch.where(mask[..., None], encode(encoder, ids, mask), 0)
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return states.detach(), {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}


@pytest.mark.parametrize("kind", ["prefix", "holes", "empty rows", "nothing"])
def test_states_and_gradients_are_those_of_the_whole_batch(kind):
    encoder, (ids, mask) = make_encoder().double(), make_batch(kind)
    states, gradients = states_and_gradients(encode_by_length, encoder, ids, mask)
    expected_states, expected_gradients = states_and_gradients(encode_whole, encoder, ids, mask)
    torch.testing.assert_close(states, expected_states, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["prefix", "holes", "empty rows"])
def test_float32_differs_by_rounding_alone(kind):
    encoder, (ids, mask) = make_encoder(), make_batch(kind)
    states = encode_by_length(encoder, ids, mask)
    torch.testing.assert_close(states[mask], encode_whole(encoder, ids, mask)[mask], rtol=1e-5, atol=1e-5)


def test_states_are_as_long_as_the_batch_and_finite():
    ids, mask = make_batch("empty rows")
    states = encode_by_length(make_encoder(), ids, mask)
    assert states.shape == (SIZE, LENGTH, TEXT.hidden_size)
    assert states.isfinite().all()
    lengths = (mask * torch.arange(1, LENGTH + 1)).amax(1)
    shortest = lengths.argmin()
    assert (states[shortest, 1:] == 0).sum() > states[0].numel() / 2  # nothing was computed there


@pytest.mark.parametrize("kind", ["prefix", "holes"])
def test_a_call_is_as_long_as_its_longest_row(kind):
    encoder, (ids, mask) = make_encoder(), make_batch(kind)
    make_distinct(ids, mask)
    masks = record(encoder)
    encode_by_length(encoder, ids, mask)
    assert len(masks) > 1
    assert sum(map(len, masks)) == SIZE
    assert all(part[:, -1].any() for part in masks)
    assert sum(part.numel() for part in masks) < 0.6 * mask.numel()


class Lookup(nn.Embedding):
    """A text encoder of no layers."""

    def forward(self, input_ids, attention_mask):
        return ModelOutput(last_hidden_state=super().forward(input_ids))


@pytest.mark.parametrize("cost", [1, 20, 100, 1000])
def test_tokens_and_calls_together_cost_the_least(cost, monkeypatch):
    monkeypatch.setattr(by_length, "CALL_COST", cost)
    lengths = torch.tensor([3, 9, 4, 4, 30, 12, 3, 7, 3, 21, 12, 5])
    mask = torch.arange(30) < lengths[:, None]
    encoder = Lookup(10, 4)
    masks = record(encoder)
    ids = torch.randint(10, mask.shape)
    assert torch.equal(encode_by_length(encoder, ids, mask)[mask], encoder.weight[ids][mask])
    ordered = lengths.sort().values.tolist()
    cuts = (cut for calls in range(12) for cut in combinations(range(1, 12), calls))
    costs = [sum(cost + (end - start) * ordered[end - 1] for start, end in pairwise((0, *cut, 12))) for cut in cuts]
    assert sum(cost + part.numel() for part in masks) == min(costs)


@pytest.mark.parametrize("lengths", [[7], [40] * 24, [1] * 24, [9, 8]], ids=["one row", "full", "short", "few"])
def test_what_would_gain_nothing_is_one_call_as_it_was(lengths):
    encoder, mask = make_encoder(), torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    ids = torch.randint(3, TEXT.vocab_size, mask.shape)
    make_distinct(ids, mask)
    expected, masks = encode_whole(encoder, ids, mask), record(encoder)
    assert torch.equal(encode_by_length(encoder, ids, mask), expected)
    assert [part.shape for part in masks] == [mask.shape]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_same_dtype_and_digits(dtype):
    encoder, (ids, mask) = make_encoder(), make_batch()
    with torch.autocast("cpu", dtype):
        states, expected = encode_by_length(encoder, ids, mask), encode_whole(encoder, ids, mask)
    torch.testing.assert_close(states[mask], expected[mask], rtol=0, atol=0.05)


# what follows a graph or shares its weights: one call


class Encode(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids, mask):
        return encode_by_length(self.encoder, ids, mask)


def test_compiles_as_one_graph():
    torch._dynamo.reset()
    module, (ids, mask) = Encode(make_encoder()), make_batch()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids, mask)[mask], module(ids, mask)[mask])


def test_exports_for_any_size_and_length():
    module, batch = Encode(make_encoder()), make_batch()
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=1, max=50)}
    exported = torch.export.export(module, batch, dynamic_shapes=(sizes, sizes)).module()
    ids, mask = (part[:9, :30] for part in make_batch())
    torch.testing.assert_close(exported(ids, mask)[mask], module(ids, mask)[mask])


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_a_trace_holds_for_other_lengths():
    module = Encode(Lookup(TEXT.vocab_size, 4))
    traced = torch.jit.trace(module, make_batch(), check_trace=False)  # what is masked differs
    ids, mask = make_batch()
    torch.testing.assert_close(traced(ids, mask)[mask], module(ids, mask)[mask])


def test_fake_tensors_have_no_lengths_to_sort_by():
    ids, mask = make_batch()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        states = Encode(make_encoder())(mode.from_tensor(ids), mode.from_tensor(mask))
    assert states.shape == (SIZE, LENGTH, TEXT.hidden_size)


def test_an_accelerator_gets_one_call():
    ids, mask = (part.to("meta") for part in make_batch())  # stands for one: its values cannot be read here
    assert encode_by_length(Lookup(TEXT.vocab_size, 4, device="meta"), ids, mask).shape == (SIZE, LENGTH, 4)


def test_processes_that_share_an_encoder_call_it_equally_often(tmp_path):
    encoder, (ids, mask) = make_encoder(), make_batch()
    expected = encode_by_length(encoder, ids, mask)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        fully_shard(encoder.encoder.layer[1], mesh=init_device_mesh("cpu", (1,)))
        masks = record(encoder)
        states = encode_by_length(encoder, ids, mask)
    finally:
        torch.distributed.destroy_process_group()
    assert len(masks) == 1
    torch.testing.assert_close(states[mask], expected[mask], rtol=1e-5, atol=1e-5)


# in the model


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_predictions_and_gradients_of_a_model_are_the_same(model_class, monkeypatch):
    config = DerlConfig.smoke(modalities=["text", "audio"], text_config=TEXT, consistency_weight=1.0)
    model, (ids, mask) = model_class(config).double().train(), make_batch("holes")
    inputs = {"text": ids, "audio": torch.randn(SIZE, 6, 5, dtype=torch.float64)}
    masks = {"text": mask, "audio": torch.ones(SIZE, 6, dtype=torch.bool)}
    keep = {name: part & (torch.rand(part.shape) > 0.4) for name, part in masks.items()}
    calls = record(model.text_encoder)

    def step():
        calls.clear()
        model.zero_grad()
        output = model(inputs, masks, keep, torch.linspace(-3, 3, SIZE).double())
        output.loss.backward()
        return output.prediction, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    prediction, gradients = step()
    assert len(calls) > 1
    monkeypatch.setattr(sentiment, "encode_by_length", encode_whole)
    expected, expected_gradients = step()
    assert len(calls) == 1
    torch.testing.assert_close(prediction, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_equal_rows_are_encoded_once_in_evaluation(training):
    encoder, (ids, mask) = make_encoder().train(training), make_batch("holes")
    make_distinct(ids, mask)
    ids[~mask] = torch.randint(3, TEXT.vocab_size, ids.shape)[~mask]
    twice, rows = torch.cat([ids, ids]), torch.randperm(2 * SIZE)
    twice[SIZE:][~mask] = 0  # what is masked may differ
    masks = record(encoder)
    states = encode_by_length(encoder, twice[rows], mask.repeat(2, 1)[rows])
    assert sum(map(len, masks)) == (2 * SIZE if training else SIZE)
    if not training:
        expected = encode_whole(encoder, ids, mask).repeat(2, 1, 1)[rows]
        shown = mask.repeat(2, 1)[rows]
        torch.testing.assert_close(states[shown], expected[shown], rtol=1e-5, atol=1e-5)
