"""Modalities are a set, and what is absent is never read: held for every block and both losses."""

import io
import re
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from modx import (
    BottleneckEncoder,
    Disentangled,
    Experts,
    HybridExpertDisentangler,
    MissingModalityFusion,
    ModalityRouter,
    MultiLevelReconstructor,
    Reconstruction,
    Router,
    TransformerBlock,
    TransformerEncoder,
)
from modx.losses import orthogonality_loss, reconstruction_loss

NAMES = ("text", "audio", "vision")


def sequences(kind: type[nn.Module], names=NAMES, **kwargs) -> nn.Module:
    widths = dict.fromkeys(names, 4)
    lengths = dict.fromkeys(reversed(names), 5)
    return kind(widths, 4, num_tokens=2, num_heads=2, head_dim=2, max_lengths=lengths, **kwargs)


MODULES = {
    "BottleneckEncoder": partial(sequences, BottleneckEncoder),
    "HybridExpertDisentangler": lambda names=NAMES, **kw: HybridExpertDisentangler(names, 4, 5, **kw),
    "MultiLevelReconstructor": lambda names=NAMES, **kw: MultiLevelReconstructor(names, 4, 5, **kw),
    "ModalityRouter": lambda names=NAMES, **kw: ModalityRouter(names, 4, 5, **kw),
    "MissingModalityFusion": partial(sequences, MissingModalityFusion),
}
OTHERS = {
    "Router": lambda **kw: Router(4, 3, hidden_dim=5, **kw),
    "Router of one layer": lambda **kw: Router(4, 3, **kw),
    "Experts": lambda **kw: Experts(3, 4, 5, **kw),
    "TransformerBlock": lambda **kw: TransformerBlock(4, num_heads=2, head_dim=2, **kw),
    "TransformerEncoder": lambda **kw: TransformerEncoder(4, 2, num_heads=2, head_dim=2, **kw),
}
LOSSES = ("orthogonality_loss", "reconstruction_loss")
every_module = pytest.mark.parametrize("name", MODULES)
every_consumer = pytest.mark.parametrize("name", [*MODULES, *LOSSES])


def draw(names=NAMES, seed=0, dtype=torch.float32) -> list[dict[str, Tensor]]:
    """Three mappings; a modality's values do not depend on the order of the names."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [{name: torch.randn(4, 3, 4, generator=generator).to(dtype) for name in NAMES} for _ in range(3)]
    return [{name: part[name] for name in names} for part in drawn]


def run(name: str, module: nn.Module | None, parts: list[dict], present: dict | None = None) -> tuple:
    """Everything that a module or a loss gives for three mappings."""
    features, private, shared = parts
    views = Disentangled(private, shared, {})
    if name == "orthogonality_loss":
        return (orthogonality_loss(views, present=present),)
    if name == "reconstruction_loss":
        rebuilt = Reconstruction(private, shared, features, shared)
        return tuple(reconstruction_loss(rebuilt, features, views, present=present))
    if name == "MultiLevelReconstructor":
        return tuple(module(features, views, present))
    if name == "ModalityRouter":
        return tuple(module(private, shared, present=present))
    result = module(features, present)
    return (result,) if isinstance(result, dict) else tuple(result)


def make(name: str, **kwargs) -> nn.Module | None:
    torch.manual_seed(0)
    return MODULES[name](**kwargs) if name in MODULES else None


def by_path(result: tuple) -> dict[str, Tensor]:
    return {keystr(path): part for path, part in tree_flatten_with_path(result)[0]}


# names


@every_module
def test_the_order_of_names_changes_neither_keys_nor_values_nor_outputs(name):
    module, turned = make(name), make(name, names=("vision", "text", "audio"))
    assert module.modalities == turned.modalities == ("audio", "text", "vision")
    assert list(module.state_dict()) == list(turned.state_dict())
    torch.testing.assert_close(module.state_dict(), turned.state_dict(), rtol=0, atol=0)
    got, expected = run(name, turned, draw(("vision", "text", "audio"))), run(name, module, draw())
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@every_module
def test_a_checkpoint_of_other_names_is_refused_and_says_so(name):
    file = io.BytesIO()
    torch.save(make(name).state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    make(name, names=("vision", "audio", "text")).load_state_dict(state)
    message = re.escape("expected a checkpoint with modalities ('audio', 'heart', 'text'), got ('audio', 'text', 'v")
    with pytest.raises(RuntimeError, match=message):
        nn.ModuleList([make(name, names=("text", "audio", "heart"))]).load_state_dict(
            nn.ModuleList([make(name)]).state_dict()
        )
    with pytest.raises(RuntimeError, match=message):
        make(name, names=("text", "audio", "heart")).load_state_dict(state)


@pytest.mark.parametrize("bad", ["", "a.b", "type", "half", "keys", "get", "training", "_modules", "named_parameters"])
@every_module
def test_a_name_that_no_module_can_have_is_refused(name, bad):
    with pytest.raises(ValueError, match=re.escape(f"got {bad!r}; rename it.")):
        MODULES[name](("text", bad))


# absence


@every_consumer
def test_left_out_is_none_is_masked(name):
    module, parts = make(name), draw()
    present = {key: torch.full((4,), key != "audio") for key in NAMES}
    masked = by_path(run(name, module, [part | {"audio": torch.full((4, 3, 4), torch.nan)} for part in parts], present))
    for given in (
        [part | {"audio": None} for part in parts],
        [{key: part[key] for key in part if key != "audio"} for part in parts],
    ):
        for mask in (present, None):
            left_out = by_path(run(name, module, given, mask))
            assert left_out.keys() == {path for path in masked if "audio" not in path}
            torch.testing.assert_close(left_out, {path: masked[path] for path in left_out}, rtol=1e-6, atol=1e-6)
    if name != "BottleneckEncoder":  # whose tokens of a masked sequence are ordinary tokens
        assert not any(part.any() for path, part in masked.items() if "audio" in path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("by", ["modality", "token"])
@every_consumer
def test_nothing_absent_reaches_an_output_or_a_gradient(name, by, dtype):
    module, clean = make(name, dtype=dtype), draw(dtype=dtype)
    shape = (4,) if by == "modality" else (4, 3)
    present = {key: torch.rand(shape) < 0.5 for key in NAMES}
    present["audio"][:] = False
    results = []
    for poison in (None, torch.nan, torch.inf):
        leaves = [{key: x.clone() for key, x in part.items()} for part in clean]
        for part in leaves if poison is not None else []:
            for key, x in part.items():
                x[~present[key]] = poison
        inputs = [x.requires_grad_() for part in leaves for x in part.values()]
        parameters = [] if module is None else list(module.parameters())
        outputs = by_path(run(name, module, leaves, present))
        loss = sum(part.sin().sum() for part in outputs.values())
        results.append((outputs, torch.autograd.grad(loss, [*inputs, *parameters], allow_unused=True)))
    for outputs, gradients in results[1:]:
        for part in (*outputs.values(), *(part for part in gradients if part is not None)):
            assert part.isfinite().all()
        torch.testing.assert_close(outputs, results[0][0], rtol=0, atol=0)
        torch.testing.assert_close(gradients, results[0][1], rtol=0, atol=0)
        for x, gradient in zip((present[key] for _ in range(3) for key in NAMES), gradients, strict=False):
            assert gradient is None or not gradient[~x].any()


@pytest.mark.parametrize("name", MODULES)
def test_a_vector_is_one_token_and_its_mask_one_flag(name):
    module, tokens = make(name), [{key: x[:, :1] for key, x in part.items()} for part in draw()]
    vectors = [{key: x[:, 0] for key, x in part.items()} for part in tokens]
    present = {key: torch.rand(4, 1) < 0.5 for key in NAMES}
    expected = run(name, module, tokens, present)
    for mask in (present, {key: part[:, 0] for key, part in present.items()}):
        torch.testing.assert_close(run(name, module, vectors, mask), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_over_nothing_is_zero_with_a_gradient_of_zero(name):
    absent = {key: torch.zeros(4, 3, dtype=torch.bool) for key in NAMES}
    for parts, present in ((draw(), absent), ([{"text": torch.zeros(0, 3, 4)}] * 3, None)):
        leaves = [{key: x.clone().requires_grad_() for key, x in part.items()} for part in parts]
        for loss in run(name, None, leaves, present):
            assert loss == 0
            loss.backward(retain_graph=True)
        assert all(x.grad is None or not x.grad.any() for part in leaves for x in part.values())


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_over_what_is_present(name):
    parts, present = draw(dtype=torch.float64), {key: torch.rand(4, 3) < 0.5 for key in NAMES}
    expected = [
        run(name, None, [{key: part[key][present[key]][None]} for part in parts]) for key in NAMES
    ]  # one modality at a time, and of it what is present alone
    torch.testing.assert_close(run(name, None, parts, present), tuple(map(sum, zip(*expected, strict=True))))


def test_where_all_are_absent_the_fused_tokens_are_zeros():
    fused = make("ModalityRouter")(*draw()[:2], present={key: torch.zeros(4, dtype=torch.bool) for key in NAMES})
    assert not any(part.any() for part in by_path(fused).values())


# starting anew


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_from_meta_to_a_fresh_module(name):
    build = (MODULES | OTHERS)[name]
    torch.manual_seed(1)
    expected = build().state_dict()
    module = build(device="meta").to_empty(device="cpu")
    for parameter in module.parameters():
        nn.init.constant_(parameter, torch.nan)
    torch.manual_seed(1)
    module.reset_parameters()
    torch.testing.assert_close(module.state_dict(), expected, rtol=0, atol=0)
