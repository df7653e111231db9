"""The arguments of the op as one record, made and checked once.

T tokens, E experts, P private experts per group, S shared experts, H hidden width, D_in and D_out widths.
"""

from collections.abc import Collection, Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import autocasts, check_choice, check_shapes, check_sizes, check_tensor
from .activations import ACTIVATIONS


class Mixture(NamedTuple):
    """Tokens, the experts they visit, and how their outputs are weighted."""

    x: Tensor  # (T, D_in), group after group
    router_weights: Tensor | None  # (T, P + S), private experts first; None: every weight is 1
    w1: Tensor  # (E, H, D_in), private experts group by group, then the shared ones
    b1: Tensor  # (E, H)
    w2: Tensor  # (E, H, D_out)
    b2: Tensor  # (E, D_out)
    group_sizes: Sequence[int]
    num_private: int
    num_shared: int
    activation: str

    @property
    def tensors(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.router_weights, self.w1, self.b1, self.w2, self.b2

    @property
    def layout(self) -> tuple[Sequence[int], int, int, str]:
        """All but the tensors."""
        return self.group_sizes, self.num_private, self.num_shared, self.activation

    @property
    def experts_per_token(self) -> int:
        return self.num_private + self.num_shared

    @property
    def first_shared(self) -> int:
        """Index of the first shared expert, which is the count of private ones."""
        return len(self.group_sizes) * self.num_private

    def groups(self) -> list[tuple[slice, slice]]:
        """Each group's tokens and its private experts."""
        found, start = [], 0
        for group, size in enumerate(self.group_sizes):
            experts = slice(group * self.num_private, (group + 1) * self.num_private)
            found.append((slice(start, start + size), experts))
            start += size
        return found


def checked(mixture: Mixture) -> Mixture:
    """The mixture, its group sizes as a list, once every argument fits the others."""
    x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation = mixture
    _check_tensors(mixture)
    check_sizes("expert_mixture", 0, num_private=num_private, num_shared=num_shared)
    if not num_private and not num_shared:
        raise ValueError(
            "expert_mixture expected num_private and num_shared to leave at least one expert in all, got "
            "num_private=0, num_shared=0; raise one of them."
        )
    sizes = check_shapes("expert_mixture", x=(x, "T D_in"))
    if not isinstance(group_sizes, Collection) or not all(isinstance(n, Integral | torch.SymInt) for n in group_sizes):
        raise TypeError(
            f"expert_mixture expected group_sizes: a sequence of ints, got {group_sizes!r}; pass the number of tokens "
            "in each group, as in (3, 2)."
        )
    if any(size < 0 for size in group_sizes) or sum(group_sizes) != sizes["T"]:
        raise ValueError(
            f"expert_mixture expected group_sizes that are >= 0 and sum to the {sizes['T']} tokens of x, "
            f"got {list(group_sizes)}; give every token of x a group."
        )
    check_shapes(
        "expert_mixture",
        {**sizes, "K": num_private + num_shared, "E": mixture.first_shared + num_shared},
        w1=(w1, "E H D_in"),
        b1=(b1, "E H"),
        w2=(w2, "E H D_out"),
        b2=(b2, "E D_out"),
        router_weights=(router_weights, "T K"),
    )
    check_choice("expert_mixture", "activation", activation, ACTIVATIONS)
    return mixture._replace(group_sizes=list(group_sizes))


def _check_tensors(mixture: Mixture) -> None:
    x, weights = mixture.x, (mixture.w1, mixture.b1, mixture.w2, mixture.b2)
    for name in ("x", "w1", "b1", "w2", "b2", "router_weights"):
        tensor = getattr(mixture, name)
        if name == "router_weights" and tensor is None:
            continue
        check_tensor("expert_mixture", name, tensor)
        if not tensor.is_floating_point():
            raise ValueError(
                f"expert_mixture expected {name} in a floating-point dtype, got {tensor.dtype}; embed or cast it first."
            )
        if tensor.device != x.device:
            raise ValueError(
                f"expert_mixture expected {name} on the device of x, {x.device}, got {tensor.device}; move one of them."
            )
    if any(weight.dtype != x.dtype for weight in weights) and not autocasts(x.device.type):
        raise ValueError(
            f"expert_mixture expected w1, b1, w2, b2 in the dtype of x, {x.dtype}, "
            f"got {', '.join(str(weight.dtype) for weight in weights)}; cast one of them, or use autocast."
        )
