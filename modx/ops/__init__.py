"""The op behind all experts and two-layer networks of the library: a weighted mixture of MLPs.

T tokens, E experts, P private experts per group, S shared experts, H hidden width, D_in and D_out widths.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from torch import Tensor

from . import eager, reference
from .dispatch import Choice, choose, compute_dtype
from .mixture import Mixture, checked

__all__ = ["expert_mixture", "explain", "Choice"]

P = ParamSpec("P")


def expert_mixture(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str = "gelu",
    implementation: str = "auto",
    least_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Compute the weighted sums of each token's private and shared experts.

    For token t of group g, with :math:`f_e(x) = \mathrm{act}(x W_{1,e}^\top + b_{1,e}) W_{2,e} + b_{2,e}`:

    .. math::
        \mathrm{private}_t = \sum_{k<P} w_{t,k} f_{gP+k}(x_t), \qquad
        \mathrm{shared}_t = \sum_{k<S} w_{t,P+k} f_{GP+k}(x_t)

    Eq. 4 of DERL (Li et al., "Mixture of Disentangled Experts with Missing Modalities for Robust Multimodal
    Sentiment Analysis").

    Args:
        x: Tokens of all groups, ``(T, D_in)``, group after group. A group is usually a modality.
        router_weights: ``(T, P + S)``, private experts first. If None, every weight is 1.
        w1: ``(E, H, D_in)`` with E = len(group_sizes) * P + S: private experts group after group, then shared experts.
        b1: ``(E, H)``.
        w2: ``(E, H, D_out)``. Row ``w1[e, h]`` holds the input weights of hidden unit h of expert e, row ``w2[e, h]``
            its output weights.
        b2: ``(E, D_out)``.
        group_sizes: Number of tokens per group. They sum to T, and a group may be empty.
        num_private: P, private experts per group.
        num_shared: S, experts that every group uses.
        activation: "gelu" (exact), "gelu_tanh", "relu" or "silu".
        implementation: "auto", "reference", "eager" or "triton". :func:`explain` tells what "auto" runs. "eager" means
            plain PyTorch operations; inside ``torch.compile``, they are compiled like any others.
        least_memory: Save only the inputs for the backward pass, and recompute the hidden layer in chunks. "eager"
            ignores it inside ``torch.compile`` and under ``torch.func`` transforms.

    Returns:
        ``(private, shared)``, each ``(T, D_out)``. A sum over no experts is zeros.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, dtype or count does not match, a word is unknown, or the requested implementation cannot
            run.
        NotImplementedError: A gradient of ``implementation="triton"`` is differentiated again.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 8)  # three text tokens, two audio tokens
        >>> w1, b1, w2, b2 = torch.randn(3, 16, 8), torch.zeros(3, 16), torch.randn(3, 16, 4), torch.zeros(3, 4)
        >>> weights = torch.full((5, 2), 0.5)  # one private expert each, one shared
        >>> private, shared = expert_mixture(
        ...     x, weights, w1, b1, w2, b2, group_sizes=(3, 2), num_private=1, num_shared=1
        ... )
        >>> private.shape, shared.shape
        (torch.Size([5, 4]), torch.Size([5, 4]))
    """
    arguments = (x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation)
    mixture, dtype = checked(Mixture(*arguments)), compute_dtype(x)
    choice = choose(mixture, dtype, implementation, least_memory)
    if choice.implementation == "reference":
        return reference.expert_mixture(mixture)
    if choice.implementation == "triton":
        from . import triton

        return triton.expert_mixture(mixture, dtype, least_memory)
    return eager.expert_mixture(mixture, dtype, least_memory)


def _takes_arguments_of(op: Callable[P, object]) -> Callable[[Callable[..., Choice]], Callable[P, Choice]]:
    """Give a function the signature of another one, for readers, ``help`` and type checkers."""

    def sign(function: Callable[..., Choice]) -> Callable[P, Choice]:
        function.__signature__ = inspect.signature(op).replace(return_annotation=Choice)  # type: ignore[attr-defined]
        return function

    return sign


@_takes_arguments_of(expert_mixture)
def explain(*args: Any, **kwargs: Any) -> Choice:
    """Tell which implementation :func:`expert_mixture` would run for the same arguments, and why, without running it.

    Returns:
        ``(implementation, reason)``, which prints as one line.

    Raises:
        TypeError, ValueError: As for :func:`expert_mixture`.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 8)
        >>> w1, b1, w2, b2 = torch.randn(3, 16, 8), torch.zeros(3, 16), torch.randn(3, 16, 8), torch.zeros(3, 8)
        >>> print(explain(x, None, w1, b1, w2, b2, group_sizes=(3, 2), num_private=1, num_shared=1))
        eager: the kernels need a GPU, and x is on cpu
    """
    given = inspect.signature(expert_mixture).bind(*args, **kwargs)
    given.apply_defaults()
    *arguments, implementation, least_memory = given.arguments.values()
    return choose(checked(Mixture(*arguments)), compute_dtype(arguments[0]), implementation, least_memory)
