"""The formulas of DERL as float64 loops over plain lists, written without the library that they are held against."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Vector = list[float]
Matrix = list[Vector]
Network = tuple[Matrix, Vector, Matrix, Vector]

ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "gelu": lambda z: 0.5 * z * (1 + math.erf(z / math.sqrt(2))),
    "gelu_tanh": lambda z: 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "relu": lambda z: z if z > 0 else 0.0,
    "silu": lambda z: z / (1 + math.exp(-z)),
}


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def scaled_sum(weights: Sequence[float], rows: Sequence[Vector], width: int) -> Vector:
    return [math.fsum(w * row[column] for w, row in zip(weights, rows, strict=True)) for column in range(width)]


def softmax(logits: Vector) -> Vector:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def network(bank: nn.Module, expert: int) -> Network:
    """One expert's parameters, out of anything with w1, b1, w2, b2."""
    w1, b1, w2, b2 = (getattr(bank, name)[expert].tolist() for name in ("w1", "b1", "w2", "b2"))
    return w1, b1, w2, b2


def mlp(x: Vector, params: Network, activation: str = "gelu") -> Vector:
    """Hidden unit h reads with row h of w1 and writes with row h of w2."""
    w1, b1, w2, b2 = params
    hidden = [ACTIVATIONS[activation](dot(row, x) + bias) for row, bias in zip(w1, b1, strict=True)]
    return [a + b for a, b in zip(scaled_sum(hidden, w2, len(b2)), b2, strict=True)]


def expert_mixture(
    x: Tensor,
    weights: Tensor | None,
    networks: Sequence[Network],
    out_dim: int,
    *,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str,
) -> tuple[Tensor, Tensor]:
    """Eq. 4, token by token: the group's private experts, and the shared ones at the end of the bank."""
    private: Matrix = []
    shared: Matrix = []
    group_of_token = [group for group, size in enumerate(group_sizes) for _ in range(size)]
    for token, group in enumerate(group_of_token):
        row = x[token].tolist()
        weight = [1.0] * (num_private + num_shared) if weights is None else weights[token].tolist()
        own = [mlp(row, networks[group * num_private + k], activation) for k in range(num_private)]
        common = [mlp(row, networks[len(group_sizes) * num_private + k], activation) for k in range(num_shared)]
        private.append(scaled_sum(weight[:num_private], own, out_dim))
        shared.append(scaled_sum(weight[num_private:], common, out_dim))
    return tensor(private, out_dim), tensor(shared, out_dim)


def linear(layer: nn.Linear, x: Vector) -> Vector:
    biases = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [dot(row, x) + bias for row, bias in zip(layer.weight.tolist(), biases, strict=True)]


def layer_norm(layer: nn.LayerNorm, x: Vector) -> Vector:
    mean = math.fsum(x) / len(x)
    variance = math.fsum((value - mean) ** 2 for value in x) / len(x)
    return [
        (value - mean) / math.sqrt(variance + layer.eps) * scale + shift
        for value, scale, shift in zip(x, layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def router(module: nn.Module, x: Vector, present: Sequence[bool] | None = None) -> Vector:
    """Eq. 3 and 14: a softmax at a temperature, over the experts present alone, or the best k of them."""
    layer = module.logits
    logits = linear(layer, x) if isinstance(layer, nn.Linear) else mlp(x, network(layer, 0))
    temperature = math.exp(module.log_temperature.item())
    shown = [k for k in range(len(logits)) if present is None or present[k]]
    shown = sorted(shown, key=lambda k: -logits[k])[: module.top_k]
    weights = [0.0] * len(logits)
    if shown:
        for k, weight in zip(shown, softmax([logits[k] / temperature for k in shown]), strict=True):
            weights[k] = weight
    return weights


def transformer_block(block: nn.Module, x: Tensor, mask: Sequence[bool]) -> Tensor:
    """One sample (T, D): pre-norm attention head by head over the tokens shown, then the feed-forward network."""
    rows = x.tolist()
    queries, keys, values = (
        [linear(project, layer_norm(norm, row)) for row in rows]
        for project, norm in (
            (block.query, block.query_norm),
            (block.key, block.key_norm),
            (block.value, block.value_norm),
        )
    )
    width, shown = block.head_dim, [j for j in range(len(rows)) if mask[j]]
    output: Matrix = []
    for row, query in zip(rows, queries, strict=True):
        attention: Vector = []
        for start in range(0, block.num_heads * width, width):
            head = slice(start, start + width)
            weights = softmax([dot(query[head], keys[j][head]) / math.sqrt(width) for j in shown]) if shown else []
            attention += scaled_sum(weights, [values[j][head] for j in shown], width)
        row = [a + b for a, b in zip(row, linear(block.proj, attention), strict=True)]
        update = mlp(layer_norm(block.ffn_norm, row), network(block.ffn, 0))
        output.append([a + b for a, b in zip(row, update, strict=True)])
    return tensor(output, x.shape[1])


def tensor(rows: Matrix, width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width)
