"""CrossmodalEncoder, against PyTorch's transformer layer and attention."""

import torch
from torch import nn

from baselines.crossmodal import CrossmodalEncoder, sinusoids


def make(depth=1):
    return CrossmodalEncoder(8, depth, 2).double().eval()


def attention(layer):
    """The layer's weights in PyTorch's attention."""
    found = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    parts = (layer.query, layer.key, layer.value)
    found.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach()
    found.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach()
    found.out_proj.load_state_dict(layer.proj.state_dict())
    return found


def placed(x):
    return 8**0.5 * x + sinusoids(x)


def test_attention_to_itself_is_pytorchs_pre_norm_layer():
    encode = make()
    (layer,) = encode.layers
    oracle = nn.TransformerEncoderLayer(8, 2, 32, 0.0, norm_first=True, batch_first=True, dtype=torch.float64)
    oracle.self_attn = attention(layer)
    for theirs, ours in (("norm1", layer.norm), ("norm2", layer.ffn_norm)):
        getattr(oracle, theirs).load_state_dict(ours.state_dict())
    oracle.linear1.load_state_dict(layer.ffn[0].state_dict())
    oracle.linear2.load_state_dict(layer.ffn[3].state_dict())
    x, mask = torch.randn(3, 5, 8).double(), torch.arange(5) < torch.tensor([[5], [2], [4]])
    expected = encode.norm(oracle.train()(placed(x * mask[..., None]), src_key_padding_mask=~mask))
    torch.testing.assert_close(encode(x, mask), torch.where(mask[..., None], expected, 0))


def test_every_layer_attends_to_the_same_source():
    encode = make(depth=2)
    x, source = torch.randn(3, 5, 8).double(), torch.randn(3, 7, 8).double()
    mask = torch.arange(7) < torch.tensor([[7], [3], [1]])
    y, keys = placed(x), placed(source * mask[..., None])
    for layer in encode.layers:
        normal = layer.norm(keys)
        y = y + attention(layer)(layer.norm(y), normal, normal, key_padding_mask=~mask)[0]
        y = y + layer.ffn(layer.ffn_norm(y))
    torch.testing.assert_close(encode(x, source=source, source_mask=mask), encode.norm(y))


def test_an_absent_source_adds_nothing():
    encode = make()
    x, nothing = torch.randn(2, 5, 8).double(), torch.zeros(2, 7, dtype=torch.bool)
    found = encode(x, source=torch.full((2, 7, 8), torch.nan).double(), source_mask=nothing)
    (layer,) = encode.layers
    y = placed(x)
    torch.testing.assert_close(found, encode.norm(y + layer.ffn(layer.ffn_norm(y))))
