"""MissingModalityFusion: the blocks behind one call."""

import inspect
import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from modx import Disentangled, FusionOutput, MissingModalityFusion
from modx.losses import orthogonality_loss, reconstruction_loss

DIMS = {"text": 4, "audio": 5, "vision": 3}
LENGTHS = {"text": 6, "audio": 9, "vision": 7}
MOSI = {
    "input_dims": {"text": 768, "audio": 5, "vision": 20},
    "dim": 128,
    "num_tokens": 4,
    "max_lengths": {"text": 50, "audio": 375, "vision": 500},
}
SMALL = {"num_tokens": 2, "num_heads": 2, "head_dim": 4}


def make(**changes) -> MissingModalityFusion:
    torch.manual_seed(0)
    arguments = {"input_dims": DIMS, "dim": 8, "max_lengths": LENGTHS, **SMALL} | changes
    return MissingModalityFusion(**arguments)


def draw(batch_size=5, seed=1) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Inputs, what is real of them, and what survived: whole modalities are missing or dropped here and there."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(batch_size, LENGTHS[name], DIMS[name], generator=generator) for name in DIMS}
    masks = {name: torch.rand(part.shape[:2], generator=generator) < 0.8 for name, part in inputs.items()}
    keep = {name: torch.rand(part.shape[:2], generator=generator) < 0.6 for name, part in inputs.items()}
    masks["audio"][0], keep["vision"][1] = False, False
    return inputs, masks, keep


def spoil(inputs: dict[str, Tensor], masks: dict[str, Tensor], content=torch.nan) -> dict[str, Tensor]:
    return {name: part.masked_fill(~masks[name][..., None], content) for name, part in inputs.items()}


def gradients(module: nn.Module, output: FusionOutput) -> list[Tensor]:
    loss = sum(part.sin().sum() for part in tree_leaves(output))
    return torch.autograd.grad(loss, list(module.parameters()))


# what it computes


def test_has_the_papers_size_on_mosi():
    fusion = MissingModalityFusion(**MOSI, device="meta")
    assert sum(parameter.numel() for parameter in fusion.parameters()) == 2_893_206


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("penalty", ["cosine", "square"])
def test_is_the_blocks_composed_by_hand_over_two_passes(penalty, detach):
    fusion = make(orthogonality_penalty=penalty, detach_target=detach).double()
    inputs, masks, keep = draw()
    inputs = {name: part.double() for name, part in inputs.items()}
    present = {name: mask.any(1) for name, mask in masks.items()}

    def run(seen: dict[str, Tensor]) -> tuple[dict[str, Tensor], Disentangled, dict, Tensor]:
        tokens = fusion.encoder(seen, masks)
        views = fusion.disentangler(tokens, present)
        fused = fusion.modality_router(views.private, views.shared, present=present)
        return tokens, views, fused.router_weights, fusion.transformer(fused.features + fusion.positions)

    tokens, views, weights, features = run({name: part * keep[name][..., None] for name, part in inputs.items()})
    whole_tokens, whole_views, _, whole_features = run(inputs)
    rebuilt = fusion.reconstructor(tokens, views, present)
    reconstruction = reconstruction_loss(rebuilt, whole_tokens, whole_views, detach_target=detach, present=present)
    expected = FusionOutput(
        features,
        {name: part.mean(1) * present[name][:, None] for name, part in tokens.items()},
        weights,
        views.router_weights,
        (orthogonality_loss(views, penalty=penalty, present=present), reconstruction.total),
        whole_features,
        {name: part.mean(1) * present[name][:, None] for name, part in whole_tokens.items()},
    )
    output = fusion(inputs, masks, keep)
    torch.testing.assert_close(tree_leaves(output), tree_leaves(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(fusion, output), gradients(fusion, expected), rtol=1e-8, atol=1e-10)
    fusion.eval()
    torch.testing.assert_close(fusion(inputs, masks, keep).features, features, rtol=1e-10, atol=1e-12)


def test_the_order_of_names_changes_nothing():
    turned = {name: DIMS[name] for name in reversed(DIMS)}
    other = make(input_dims=turned)
    inputs, masks, keep = draw()
    expected = make()(inputs, masks, keep)
    got = other(*({name: part[name] for name in turned} for part in (inputs, masks, keep)))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_in_evaluation_there_are_no_losses_and_the_complete_input_is_not_run():
    fusion, sizes = make(), []
    fusion.encoder.register_forward_hook(lambda module, args, tokens: sizes.append(len(tokens["text"])))
    inputs, masks, keep = draw()
    assert fusion(inputs, masks, keep).losses is not None
    output = fusion.eval()(inputs, masks, keep, complete=inputs)
    assert output.losses is None
    assert output.complete_features is None
    assert sizes == [10, 5]  # every sample lost something


def test_with_nothing_dropped_the_input_is_its_own_target():
    fusion = make()
    inputs, masks, _ = draw()
    alone = fusion(inputs, masks)
    kept = fusion(inputs, masks, {name: torch.ones_like(mask) for name, mask in masks.items()})
    torch.testing.assert_close(tree_leaves(alone), tree_leaves(kept))
    assert torch.equal(alone.complete_features, alone.features)
    assert alone.losses.reconstruction > 0


@pytest.mark.parametrize("dropped", ["erased", "absent"])
def test_a_sample_that_lost_nothing_is_encoded_once(dropped):
    fusion, sizes = make(dropped_modality=dropped), []
    fusion.encoder.register_forward_hook(lambda module, args, tokens: sizes.append(len(tokens["text"])))
    inputs, masks, keep = draw()
    keep = {name: mask.clone() for name, mask in keep.items()}
    for name, mask in keep.items():
        mask[2:4] = True
        mask[4] = masks[name][4]  # what is not real cannot be lost
        inputs[name][0] = 0  # nor does it show in zeros, unless all of a modality is absent
    masks["text"][0] = True
    keep["text"][0] = False
    output = fusion(inputs, masks, keep)
    assert sizes == [5 + {"erased": 1, "absent": 2}[dropped]]
    assert torch.equal(output.complete_features[2:], output.features[2:])


# what was dropped, and what is absent


def test_what_was_dropped_is_zeros_and_is_attended_to():
    fusion = make().eval()
    inputs, masks, keep = draw()
    erased = {name: part.masked_fill(~keep[name][..., None], 0) for name, part in inputs.items()}
    output = fusion(inputs, masks, keep)
    assert torch.equal(output.features, fusion(erased, masks).features)
    assert torch.equal(output.features, fusion(spoil(inputs, keep), masks, keep).features)
    unseen = {name: masks[name] & keep[name] for name in masks}
    assert not torch.allclose(output.features, fusion(inputs, unseen).features)
    assert output.unimodal["vision"][1].any()  # of which nothing was kept


def test_a_modality_dropped_whole_can_be_absent_instead():
    fusion = make(dropped_modality="absent")
    inputs, masks, keep = draw()
    for given in (masks, None):
        output = fusion(inputs, given, keep)
        assert not output.unimodal["vision"][1].any()
        assert not output.router_weights[0]["vision"][1].any()
        gone = {name: torch.ones_like(mask) for name, mask in masks.items()} if given is None else dict(given)
        gone["vision"] = gone["vision"] & keep["vision"].any(1, keepdim=True)
        gone["text"] = gone["text"] & (keep["text"] & gone["text"]).any(1, keepdim=True)
        gone["audio"] = gone["audio"] & (keep["audio"] & gone["audio"]).any(1, keepdim=True)
        reference = make()
        torch.testing.assert_close(output.features, reference(inputs, gone, keep).features)
        torch.testing.assert_close(output.complete_features, reference(inputs, given).features)  # sees it all the same


def test_what_is_kept_of_padding_keeps_no_modality():
    fusion = make(dropped_modality="absent").eval()
    inputs, masks, keep = draw()
    masks["text"][2, :3], masks["text"][2, 3:] = True, False
    keep["text"][2] = ~masks["text"][2]
    assert not fusion(inputs, masks, keep).unimodal["text"][2].any()


def test_keep_may_name_some_modalities_alone():
    fusion = make(dropped_modality="absent")
    inputs, masks, keep = draw()
    some = {"vision": keep["vision"], "audio": None}
    every = {name: torch.ones_like(mask) for name, mask in masks.items()} | {"vision": keep["vision"]}
    for given in (masks, None):
        got, expected = fusion(inputs, given, some), fusion(inputs, given, every)
        torch.testing.assert_close(tree_leaves(got), tree_leaves(expected))


def test_complete_input_is_the_target_of_what_is_incomplete_already():
    fusion = make()
    inputs, masks, keep = draw()
    incomplete = {name: part.masked_fill(~keep[name][..., None], 0) for name, part in inputs.items()}
    expected = fusion(inputs, masks, keep)
    mixed = {"text": incomplete["text"], "audio": inputs["audio"], "vision": inputs["vision"]}
    some = {name: keep[name] for name in ("audio", "vision")}
    for output in (
        fusion(incomplete, masks, complete=inputs),
        fusion(mixed, masks, some, complete={"text": inputs["text"]}),
        fusion(spoil(inputs, keep), masks, keep, complete=inputs),
    ):
        torch.testing.assert_close(tree_leaves(output), tree_leaves(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_left_out_is_none_is_masked(training):
    fusion = make().train(training)
    inputs, masks, keep = draw()
    masks["audio"][:] = False
    rest = {name: part for name, part in inputs.items() if name != "audio"}
    masked = fusion(inputs | {"audio": torch.full_like(inputs["audio"], torch.nan)}, masks, keep)
    for given in (rest, rest | {"audio": None}):
        for other in (masks, {name: masks[name] for name in rest}):
            output = fusion(given, other, keep, complete=inputs if training else None)
            assert "audio" not in output.unimodal | output.expert_weights | output.router_weights[0]
            for field in ("features", "losses", "complete_features"):
                torch.testing.assert_close(getattr(output, field), getattr(masked, field), rtol=1e-6, atol=1e-6)
            for name in rest:
                torch.testing.assert_close(output.unimodal[name], masked.unimodal[name])


def test_a_sample_of_which_nothing_is_there_gets_an_answer_and_teaches_nothing():
    fusion = make()
    inputs, masks, keep = draw()
    nothing = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    output = fusion(spoil(inputs, nothing), nothing, keep)
    assert output.features.isfinite().all()
    assert torch.equal(output.features, fusion.transformer(fusion.positions.expand(5, -1, -1)))
    assert not any(part.any() for part in tree_leaves((output.unimodal, output.router_weights, output.expert_weights)))
    assert output.losses == (0, 0)
    assert not any(part.any() for part in torch.autograd.grad(sum(output.losses), list(fusion.encoder.parameters())))


def test_a_row_does_not_depend_on_what_its_neighbours_lack():
    fusion = make().eval()
    inputs, masks, keep = draw()
    for row in range(5):
        alone = fusion(
            *({name: part[row : row + 1] for name, part in given.items()} for given in (inputs, masks, keep))
        )
        torch.testing.assert_close(alone.features[0], fusion(inputs, masks, keep).features[row])


# parts left out or replaced


def test_with_no_level_there_is_no_reconstructor_and_its_loss_is_zero():
    fusion = make(levels=())
    assert fusion.reconstructor is None
    assert fusion(*draw()).losses.reconstruction == 0
    assert fusion.config["levels"] == []


def test_a_reconstructor_can_be_removed_after_training():
    fusion = make().eval()
    expected = fusion(*draw()).features
    fusion.reconstructor = None
    torch.testing.assert_close(fusion(*draw()).features, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["encoder", "disentangler", "reconstructor", "modality_router", "transformer"])
def test_every_block_is_run_by_calling_it(name):
    fusion, calls = make(), []
    getattr(fusion, name).register_forward_hook(lambda *_: calls.append(name))
    fusion(*draw())
    assert calls == [name]


# top_k and dropout


@pytest.mark.parametrize("top_k", [1, 3])
def test_top_k_leaves_each_token_that_many_experts_and_the_views_of_all_modalities(top_k):
    fusion = make(top_k=top_k).eval()
    inputs, _, _ = draw()
    output = fusion(inputs)
    for weights in output.expert_weights.values():
        assert ((weights > 0).sum(-1) == top_k).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert all((weights > 0).all() for view in output.router_weights for weights in view.values())


def test_dropout_reaches_the_views_and_the_fusion_and_acts_in_training_only():
    inputs, masks, keep = draw()
    plain, dropping = make(), make(dropout=0.5)
    first, second = dropping(inputs, masks, keep).features, dropping(inputs, masks, keep).features
    assert not torch.equal(first, second)
    torch.testing.assert_close(dropping.eval()(inputs).features, plain.eval()(inputs).features, rtol=0, atol=0)
    for part in ("disentangler", "transformer"):
        fusion = make(dropout=0.5).eval()
        expected = fusion(inputs).features
        getattr(fusion, part).train()
        assert not torch.allclose(fusion(inputs).features, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"top_k": 5}, r"expected top_k in \[1, 4\], got 5"), ({"dropout": 1.5}, "expected dropout")],
)
def test_top_k_and_dropout_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


# config, weights and files


def test_a_config_holds_top_k_and_dropout():
    config = json.loads(json.dumps(make(top_k=2, dropout=0.25).config))
    assert (config["top_k"], config["dropout"]) == (2, 0.25)
    fusion = MissingModalityFusion.from_config(config)
    assert {router.top_k for router in fusion.disentangler.routers.values()} == {2}
    assert {fusion.disentangler.experts.dropout.p, *(block.dropout.p for block in fusion.transformer.blocks)} == {0.25}


def test_a_config_is_json_and_builds_the_same_model():
    fusion = make(num_private_experts=2, levels=("joint", "input"), expert_dim=5, ffn_dim=7, dropped_modality="absent")
    config = json.loads(json.dumps(fusion.config))
    torch.manual_seed(0)
    other = MissingModalityFusion.from_config(config)
    assert other.config == fusion.config
    assert repr(other) == repr(fusion)
    torch.testing.assert_close(other.state_dict(), fusion.state_dict(), rtol=0, atol=0)
    config["input_dims"]["text"] = fusion.config["input_dims"]["audio"] = 99
    assert fusion.config["input_dims"] == DIMS


def test_a_config_holds_every_argument_of_the_constructor():
    assert [*make().config, "device", "dtype"] == list(inspect.signature(MissingModalityFusion).parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_saved_model_answers_with_the_same_bits(dtype, tmp_path):
    fusion = make(dtype=dtype)
    batch = [{name: part.to(dtype) if part.is_floating_point() else part for name, part in x.items()} for x in draw()]
    fusion.save_pretrained(tmp_path / "new" / "folder")
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {"config.json", "model.safetensors"}
    state = torch.get_rng_state()
    loaded = MissingModalityFusion.from_pretrained(tmp_path / "new" / "folder")
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    torch.testing.assert_close(loaded(*batch).features, fusion.eval()(*batch).features, rtol=0, atol=0)
    assert MissingModalityFusion.from_pretrained(tmp_path / "new" / "folder", dtype=torch.float64).positions.dtype == (
        torch.float64
    )


def test_a_config_of_other_names_is_refused(tmp_path):
    make().save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"audio"', '"heart"'))
    message = re.escape("('heart', 'text', 'vision'), got ['audio', 'text', 'vision']; use the config.json")
    with pytest.raises(ValueError, match=message):
        MissingModalityFusion.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="got None"):
        MissingModalityFusion.from_pretrained(tmp_path)


def test_a_checkpoint_of_other_names_is_refused():
    other = MissingModalityFusion({"a": 4, "b": 5}, 8, max_lengths={"a": 6, "b": 9}, **SMALL)
    with pytest.raises(RuntimeError, match=re.escape("expected a checkpoint with modalities ('a', 'b'), got (")):
        other.load_state_dict(make().state_dict())


def test_its_files_need_neither_transformers_nor_the_hub(tmp_path):
    make().save_pretrained(tmp_path)
    code = (
        "import sys; from modx import MissingModalityFusion as F; "
        f"F.from_pretrained({str(tmp_path)!r}).save_pretrained({str(tmp_path)!r}); "
        "assert not {'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {"taste": torch.zeros(5, 6, 4)}}, "expected inputs with one or more of the modalities"),
        ({"inputs": {}}, "expected inputs with one or more of the modalities"),
        (
            {"keep": {"taste": torch.ones(5, 6, dtype=torch.bool)}},
            "expected keep for some of the modalities",
        ),
        (
            {"keep": {"text": torch.ones(5, 7, dtype=torch.bool)}},
            "expected keep['text'] of shape (B=5, N=6), got (5, 7)",
        ),
        (
            {"masks": {"text": torch.ones(5, 6, dtype=torch.bool)}},
            "expected masks for the modalities ('audio', 'text', 'vision'), got ('text',); add 'audio'",
        ),
        ({"complete": {"taste": torch.zeros(5, 6, 4)}}, "expected complete with one or more of the modalities"),
        (
            {"complete": {"text": torch.zeros(5, 5, 4)}},
            "expected complete['text'] of shape (B=5, N=6, D=4), got (5, 5, 4)",
        ),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    inputs, masks, keep = draw()
    arguments = {"inputs": inputs, "masks": masks, "keep": keep} | changes
    with pytest.raises(ValueError, match=re.escape(f"MissingModalityFusion {message}")):
        make()(**arguments)


# the rest of PyTorch


@pytest.mark.parametrize("form", ["complete", "evaluation", "left out"])
def test_compiles_as_one_graph(form):
    torch._dynamo.reset()
    fusion = make().train(form != "evaluation")
    inputs, masks, keep = draw()
    arguments = {
        "complete": (inputs, masks),
        "evaluation": (inputs, masks, keep),
        "left out": ({"text": inputs["text"], "audio": None}, None),
    }[form]
    options = {"complete": {"text": 2 * inputs["text"]}} if form == "complete" else {}
    compiled = torch.compile(fusion, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments, **options), fusion(*arguments, **options))


def test_exports_for_evaluation_with_a_left_out_modality():
    fusion = make().eval()
    inputs, masks, keep = ({name: part for name, part in given.items() if name != "audio"} for given in draw())
    exported = torch.export.export(fusion, (inputs, masks, keep)).module()
    torch.testing.assert_close(exported(inputs, masks, keep).features, fusion(inputs, masks, keep).features)
