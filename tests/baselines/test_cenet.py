"""CENET: its attention and what it adds to states, against loops in float64."""

import math

import torch

from baselines.cenet import CENET, Attention

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}


def test_it_has_the_number_of_parameters_of_mmsas_version_beside_bert():
    """Its embeddings of parts of speech, sentiment and polarity, and BERT's pooler, reach no output there."""
    with torch.device("meta"):
        widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
        core = CENET(widths, lengths, 1, dominant="text")
    square = 768 * 768 + 768
    transforms = (5 * 768 + 768 + square) + (20 * 768 + 768 + square)
    expected = transforms + 2 * 3 * square + (2 * 768 * 768 + 768) + (square + 769)
    assert sum(part.numel() for part in core.parameters()) == expected == 6_517_249


def test_attention_is_a_mean_over_unmasked_frames_weighted_by_scaled_products():
    attend, x, source = Attention(4).double(), torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    found = attend(x, source, mask)
    query, key, value = attend.query(x[0]), attend.key(source[0]), attend.value(source[0])
    for row in range(3):
        products = {frame: sum((query[row] * key[frame]).tolist()) for frame in (0, 2, 3)}
        weights = {frame: math.exp(product / math.sqrt(4)) for frame, product in products.items()}
        expected = sum(weight * value[frame] for frame, weight in weights.items()) / sum(weights.values())
        torch.testing.assert_close(found[0, row], expected)
    assert not found[1].any()


def test_the_encoder_goes_on_with_states_to_which_other_modalities_are_added():
    torch.manual_seed(0)
    core = CENET(WIDTHS, LENGTHS, 1, dominant="text").double().eval()
    features = {name: torch.randn(3, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.rand(x.shape[:2]) < 0.7 for name, x in features.items()}
    masks["text"][0], masks["text"][1, 0], masks["text"][1, 1], masks["text"][2] = True, False, True, False
    states, final, seen = torch.randn(3, 7, 6).double(), torch.randn(3, 7, 6).double(), []

    def encode(enhance):
        seen.append(enhance(states))
        return final

    prediction = core(features, masks, encode).prediction
    found = [core.attend[name](states, core.transforms[name](features[name]), masks[name]) for name in core.attend]
    weight = core.shift.weight
    expected = states + found[0] @ weight[:, :6].mT + found[1] @ weight[:, 6:].mT + core.shift.bias
    torch.testing.assert_close(seen[0], expected)
    read = torch.stack([final[0, 0], final[1, 1], final[2, 0]])  # the third has no text: the first row stands in
    torch.testing.assert_close(prediction, core.head(core.hidden(read)))


def test_other_modalities_are_read_without_the_dominant_one():
    core = CENET(WIDTHS, LENGTHS, 1, dominant="text").eval()
    features = {name: torch.randn(1, LENGTHS[name], width) for name, width in WIDTHS.items()}
    masks = {name: torch.ones(1, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["text"][:] = False
    expected = core(features, masks).prediction
    features["audio"] = features["audio"] + 1
    assert (core(features, masks).prediction != expected).all()
