"""The arguments of the op as one record that is checked once.

T tokens, E experts, P private experts per group, S shared experts, H hidden width, D_in and D_out widths.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from torch import Tensor

from .._checks import check_choice, check_range, check_shapes, check_type
from .activations import ACTIVATIONS

OP = "expert_mixture"


class Mixture(NamedTuple):
    """Tokens, the experts they run through, and the weights of the outputs."""

    x: Tensor  # (T, D_in), group after group
    router_weights: Tensor | None  # (T, P + S), private experts first; if None, every weight is 1
    w1: Tensor  # (E, H, D_in), private experts group after group, then shared experts
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
        """The arguments that are not tensors."""
        return self.group_sizes, self.num_private, self.num_shared, self.activation

    @property
    def experts_per_token(self) -> int:
        return self.num_private + self.num_shared

    @property
    def first_shared(self) -> int:
        """Index of the first shared expert, which equals the number of private experts."""
        return len(self.group_sizes) * self.num_private

    def groups(self) -> list[tuple[slice, slice]]:
        """Return each group's tokens and private experts."""
        found, start = [], 0
        for group, size in enumerate(self.group_sizes):
            experts = slice(group * self.num_private, (group + 1) * self.num_private)
            found.append((slice(start, start + size), experts))
            start += size
        return found


def checked(mixture: Mixture) -> Mixture:
    """Check the arguments against one another, and return them with the group sizes as a list."""
    x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation = mixture
    check_type(OP, Collection, group_sizes=group_sizes)
    each = {f"group_sizes[{index}]": size for index, size in enumerate(group_sizes)}
    check_range(OP, 0, num_private=num_private, num_shared=num_shared, **each)
    check_range(OP, 1, **{"num_private + num_shared": mixture.experts_per_token})
    tokens = (x, "T D_in")
    known = {"K": mixture.experts_per_token, "E": mixture.first_shared + num_shared}
    known = check_shapes(OP, known, x=tokens)
    check_range(OP, known["T"], known["T"], **{"sum(group_sizes)": sum(group_sizes)})
    bank1 = {"w1": (w1, "E H D_in"), "b1": (b1, "E H")}
    bank2 = {"w2": (w2, "E H D_out"), "b2": (b2, "E D_out")}
    weights = (router_weights, "any T K?")
    check_shapes(OP, known, getattr(w1, "dtype", None), "w1", x=tokens, **bank1, **bank2, router_weights=weights)
    check_choice(OP, ACTIVATIONS, activation=activation)
    return mixture._replace(group_sizes=list(group_sizes))
