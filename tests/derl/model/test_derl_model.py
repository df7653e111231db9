"""DerlModel and its plain baseline."""

import pytest
import torch
from tiny import tiny_text
from torch import nn
from transformers import BertConfig, BertModel

from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from modx import HybridExpertDisentangler
from modx.losses import orthogonality_loss, reconstruction_loss

TINY_TEXT = tiny_text(layers=1)
SMALL = {"dim": 16, "num_heads": 2, "head_dim": 8, "ffn_dim": 16, "expert_dim": 24, "reconstructor_dim": 16}


def make_batch(batch_size=6, rows_complete=2):
    inputs = {
        "text": torch.randint(103, 130, (batch_size, 9)),
        "audio": torch.randn(batch_size, 12, 5),
        "vision": torch.randn(batch_size, 7, 20),
    }
    inputs["text"][:, 0], inputs["text"][:, -1] = 101, 102
    masks = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
    keep = {name: torch.rand(mask.shape) > 0.6 for name, mask in masks.items()}
    for part in keep.values():
        part[:rows_complete] = True
    return inputs, masks, keep, torch.linspace(-3, 3, batch_size)


def make_model(model_class=DerlModel, **overrides):
    return model_class(DerlConfig(text_config=TINY_TEXT, **(SMALL | overrides)))


def test_the_mosi_model_has_the_papers_size_beside_its_text_encoder():
    with torch.device("meta"):
        model = DerlModel(DerlConfig())
    own = [p.numel() for name, p in model.named_parameters() if "text_encoder" not in name]
    assert sum(own) == 2_893_335


def test_with_bert_and_its_pooler_the_mosi_model_has_the_papers_total():
    with torch.device("meta"):
        encoder = BertModel(BertConfig())
    parameters = sum(p.numel() for p in encoder.parameters())
    assert parameters == 109_482_240
    assert f"{(parameters + 2_893_335) / 1e6:.2f}" == "112.38"


@pytest.mark.parametrize(("hidden", "count"), [(128, 2_909_847), (14, 2_895_027), (13, 2_894_897)])
def test_a_head_of_two_layers_has_the_papers_size_only_if_it_is_narrow(hidden, count):
    with torch.device("meta"):
        model = DerlModel(DerlConfig())
        model.head = nn.Sequential(nn.Linear(128, hidden), nn.GELU(), nn.Linear(hidden, 1))
    own = sum(p.numel() for name, p in model.named_parameters() if "text_encoder" not in name)
    assert own == count
    assert (f"{own / 1e6:.2f}" == "2.89") == (hidden < 14)


def test_routers_of_two_layers_would_not_have_the_papers_size():
    names = DerlConfig().modalities
    with torch.device("meta"):
        one, two = (HybridExpertDisentangler(names, 128, 256, router_hidden_dim=hidden) for hidden in (None, 128))
    more = sum(p.numel() for p in two.parameters()) - sum(p.numel() for p in one.parameters())
    assert 2_893_335 + more == 2_942_871


def test_the_defaults_are_the_papers_sizes_on_mosi_and_the_preset_those_on_mosei():
    for config, tokens, private, dims, lengths in (
        (DerlConfig(), 4, 1, {"audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}),
        (DerlConfig.mosei(), 8, 3, {"audio": 74, "vision": 35}, {"text": 50, "audio": 500, "vision": 500}),
    ):
        assert (config.dim, config.encoder_depth, config.fusion_depth) == (128, 1, 2)
        assert (config.num_tokens, config.num_private_experts, config.num_shared_experts) == (tokens, private, 3)
        assert (config.text_config.hidden_size, config.input_dims, config.max_lengths) == (768, dims, lengths)


def test_nothing_but_the_text_encoder_drops_units():
    with torch.device("meta"):
        model = DerlModel(DerlConfig())
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    own = {name: rate for name, rate in rates.items() if not name.startswith("text_encoder")}
    assert own
    assert not any(own.values())
    assert all(rate == 0.1 for name, rate in rates.items() if name not in own)


def test_the_text_encoder_sees_unknown_words_and_attends_to_them_but_not_to_padding():
    model = make_model().eval()
    inputs, masks, keep, _ = make_batch()
    inputs["text"][:, 7:], masks["text"][:, 8:] = torch.tensor([102, 0]), False
    keep["text"] = torch.rand(6, 9) < 0.5
    seen = []
    model.text_encoder.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    model(inputs, masks, keep)
    for row in range(6):
        for column, token in enumerate(inputs["text"][row].tolist()):
            lost = not keep["text"][row, column] and token not in (101, 102, 0)
            assert seen[0]["input_ids"][row, column] == (100 if lost else token)
    assert torch.equal(seen[0]["attention_mask"], masks["text"].long())


def test_the_mosei_preset_has_eight_tokens_three_private_experts_and_its_own_widths():
    config = DerlConfig.mosei(text_config=TINY_TEXT)
    assert (config.num_tokens, config.num_private_experts) == (8, 3)
    assert config.input_dims == {"audio": 74, "vision": 35}
    model = DerlModel(config).eval()
    inputs = {
        "text": torch.full((2, 9), 105),
        "audio": torch.randn(2, 500, 74),
        "vision": torch.randn(2, 30, 35),
    }
    assert model(inputs).fusion_weights.shape == (2, 8, 6)


def test_loss_is_equation_18_over_two_separate_passes():
    model = make_model(orthogonality_weight=0.3, reconstruction_weight=0.7).train()
    inputs, masks, keep, labels = make_batch()
    output = model(inputs, masks, keep, labels)

    def views_of(seen):
        features = model.fusion.encoder(model.embed(seen, masks), masks)
        return features, model.fusion.disentangler(features)

    features, views = views_of(model.corrupt(inputs, keep))
    targets = views_of(inputs)
    rebuilt = model.fusion.reconstructor(features, views)
    task = (output.prediction - labels).square().mean()
    expected = task + 0.3 * orthogonality_loss(views) + 0.7 * reconstruction_loss(rebuilt, *targets).total
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.task_loss, task)


def test_rows_that_lost_nothing_are_encoded_once():
    model = make_model().train()
    inputs, masks, keep, labels = make_batch(batch_size=6, rows_complete=2)
    keep["audio"][2:] &= torch.arange(12) > 0  # rows 2 to 5 surely lose a frame
    sizes = []
    model.text_encoder.register_forward_hook(lambda module, args, output: sizes.append(len(output[0])))
    model(inputs, masks, keep, labels)
    assert sizes == [6 + 4]
    model.eval()
    model(inputs, masks, keep, labels)
    assert sizes[1:] == [6]


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_lost_and_padded_content_never_reaches_the_prediction(model_class):
    model = make_model(model_class).eval()
    inputs, masks, keep, _ = make_batch()
    masks["audio"][:, 8:] = False
    keep["audio"] &= masks["audio"]
    expected = model(inputs, masks, keep).prediction
    for name in ("audio", "vision"):
        inputs[name] = torch.where(keep[name][..., None], inputs[name], torch.nan)
    lost_words = ~keep["text"] & (inputs["text"] > 102)
    inputs["text"] = torch.where(lost_words, 129 - torch.randint(0, 20, lost_words.shape), inputs["text"])
    assert torch.equal(model(inputs, masks, keep).prediction, expected)


def test_padding_more_leaves_the_prediction_unchanged():
    model = make_model().eval()
    inputs, masks, keep, _ = make_batch()
    expected = model(inputs, masks, keep).prediction
    longer = {
        name: torch.cat([part, part.new_full((6, 5, *part.shape[2:]), 0 if name == "text" else 9)], 1)
        for name, part in inputs.items()
    }
    no = torch.zeros(6, 5, dtype=torch.bool)
    padded = model(
        longer,
        {name: torch.cat([part, no], 1) for name, part in masks.items()},
        {name: torch.cat([part, no], 1) for name, part in keep.items()},
    )
    torch.testing.assert_close(padded.prediction, expected)


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_every_parameter_gets_a_gradient(model_class):
    model = make_model(model_class).train()
    model(*make_batch()).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_detached_targets_change_the_gradient_but_not_the_loss():
    batch = make_batch()
    found = []
    for detach in (False, True):
        torch.manual_seed(1)
        model = make_model(detach_target=detach, reconstruction_weight=1.0).train()
        loss = model(*batch).loss
        loss.backward()
        found.append((loss, model.fusion.encoder.tokens.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])


@pytest.mark.parametrize("modalities", [("text",), ("audio", "vision"), ("vision", "text", "audio")])
@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_saved_models_load_with_any_modalities(model_class, modalities, tmp_path):
    model = make_model(model_class, modalities=modalities).eval()
    inputs, masks, keep, _ = make_batch()
    if modalities != ("text",):
        model.fit_features(inputs, {name: torch.full((6,), part.shape[1]) for name, part in inputs.items()})
    batch = [{name: part[name] for name in modalities} for part in (inputs, masks, keep)]
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = model_class.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(*batch).prediction, model(*batch).prediction)


def test_features_are_standardized_by_their_real_frames():
    model = make_model(modalities=["audio", "text"])
    audio = 7 + 3 * torch.randn(50, 12, 5)
    audio[:, 6:] = 1e6  # padding
    audio[..., 4] = 2.0  # a feature that never varies
    model.fit_features({"audio": audio}, {"audio": torch.full((50,), 6)})
    standard = model.standardize({"audio": audio[:, :6], "text": torch.zeros(50, 3)})["audio"]
    torch.testing.assert_close(standard[..., :4].mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard[..., :4].std((0, 1), correction=0), torch.ones(4))
    assert standard[..., 4].abs().max() == 0


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_complete_input_teaches_what_was_lost(model_class):
    model = make_model(model_class, consistency_weight=0.7, complete_weight=0.3).train()
    inputs, masks, keep, labels = make_batch()
    output = model(inputs, masks, keep, labels)
    bare = make_model(model_class).train()
    bare.load_state_dict(model.state_dict())
    complete = bare(inputs, masks).prediction.detach()
    lost = torch.stack([~keep[name].all(1) for name in keep]).any(0)
    assert lost.tolist() == [False] * 2 + [True] * 4
    distance = ((output.prediction - complete)[lost] ** 2).sum() / 6
    torch.testing.assert_close(output.consistency_loss, distance, atol=1e-5, rtol=1e-4)
    error = ((complete - labels)[lost] ** 2).sum() / 6
    expected = bare(inputs, masks, keep, labels).loss + 0.7 * distance + 0.3 * error
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-4)


def test_the_complete_score_is_a_constant_to_consistency():
    model = make_model(PlainModel, consistency_weight=1.0).train()
    inputs, masks, keep, labels = make_batch()
    output = model(inputs, masks, keep, labels)
    (bias,) = torch.autograd.grad(output.consistency_loss, [model.head.bias])
    complete = model(inputs, masks).prediction.detach()
    expected = 2 * (output.prediction - complete)[2:].sum() / 6  # were both to move with the bias: 0
    torch.testing.assert_close(bias, expected.detach()[None], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_a_batch_that_lost_nothing_has_nothing_to_compare(model_class):
    model = make_model(model_class, consistency_weight=1.0, complete_weight=1.0).train()
    inputs, masks, keep, labels = make_batch(rows_complete=6)
    output = model(inputs, masks, keep, labels)
    assert output.consistency_loss is None
    torch.testing.assert_close(output.loss, model(inputs, masks, None, labels).loss)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"modalities": ["audio", "smell"]}, "expected max_lengths for"),
        ({"modalities": ["smell"], "max_lengths": {"smell": 4}}, "expected input_dims for"),
        ({"modalities": ["audio", "half"]}, "a list of distinct names, .*, got .*'half'"),
        ({"task_loss": "huber"}, "expected task_loss to be one of .*, got 'huber'"),
    ],
)
def test_a_config_that_does_not_fit_says_what_would(overrides, message):
    with pytest.raises(Exception, match=message):
        DerlConfig(**overrides)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_runs_in_other_dtypes(model_class, dtype):
    model = make_model(model_class).eval().to(dtype)
    inputs, masks, keep, _ = make_batch()
    inputs = {name: part if name == "text" else part.to(dtype) for name, part in inputs.items()}
    assert model(inputs, masks, keep).prediction.dtype == dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda inputs, masks, keep: inputs.update(dict.fromkeys(inputs)),
            "expected inputs of the modalities .* got ()",
        ),
        (lambda inputs, masks, keep: inputs.update(smell=inputs["audio"]), "expected inputs of the modalities"),
        (lambda inputs, masks, keep: keep.pop("text"), "expected keep for the modalities"),
        (lambda inputs, masks, keep: inputs.update(audio=torch.zeros(6, 12, 4)), r"got 'audio' of shape \(6, 12, 4\)"),
        (lambda inputs, masks, keep: inputs.update(audio=torch.zeros(5, 12, 5)), r"got 'audio' of shape \(5, 12, 5\)"),
        (
            lambda inputs, masks, keep: keep.update(audio=torch.ones(6, 11).bool()),
            r"keep\['audio'\] of shape",
        ),
    ],
)
@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_a_batch_that_does_not_fit_says_what_would(model_class, change, message):
    inputs, masks, keep, labels = make_batch()
    change(inputs, masks, keep)
    with pytest.raises(ValueError, match=message):
        make_model(model_class)(inputs, masks, keep, labels)


def test_labels_of_another_shape_are_refused():
    inputs, masks, keep, labels = make_batch()
    with pytest.raises(ValueError, match=r"expected labels of shape \(6,\), got \(6, 1\)"):
        make_model()(inputs, masks, keep, labels[:, None])
