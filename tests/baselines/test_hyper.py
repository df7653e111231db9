"""The hyper-modality of ALMT and LNLN, against loops in float64."""

import math

import torch

from baselines.hyper import HyperLayer


def test_the_hyper_modality_adds_what_the_dominant_one_finds():
    layer = HyperLayer(["audio", "vision"], 4, 2).double()
    hyper, dominant = torch.randn(2, 1, 2, 4).double()
    others = {name: torch.randn(1, 3, 4).double() for name in ("audio", "vision")}
    query, sums = layer.query(layer.query_norm(dominant))[0].tolist(), [[0.0] * 4 for _ in range(2)]
    for name, x in others.items():
        normal = layer.norms[name](x)
        keys, values = layer.keys[name](normal)[0].tolist(), layer.values[name](normal)[0].tolist()
        for row in range(2):
            for start in (0, 2):  # two heads of two
                powers = [
                    math.exp(sum(query[row][start + i] * key[start + i] for i in range(2)) / math.sqrt(2))
                    for key in keys
                ]
                for i in range(start, start + 2):
                    found = sum(power * value[i] for power, value in zip(powers, values, strict=True))
                    sums[row][i] += found / sum(powers)
    expected = layer.hyper_norm(hyper) + layer.proj(torch.tensor(sums, dtype=torch.float64))[None]
    torch.testing.assert_close(layer(hyper, dominant, others), expected)
