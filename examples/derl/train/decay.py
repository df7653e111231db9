"""decayed: the parameters that weight decay acts on."""

from torch import nn

BANK_BIASES = ("b1", "b2")  # a row per expert


def decayed(model: nn.Module) -> set[str]:
    """Return the names of all parameters but biases, those of norms, and vectors and scalars such as a temperature.

    Example:
        >>> from modx import Router
        >>> sorted(decayed(Router(8, 4, hidden_dim=16)))
        ['logits.w1', 'logits.w2']
    """
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1 and not _is_bias(name) and "norm" not in type(module).__name__.lower()
    }


def _is_bias(name: str) -> bool:
    """Whether it is a bias by its name in its layer, such as ``bias_ih_l0`` of ``nn.GRU``, whatever its shape."""
    return "bias" in name or name in BANK_BIASES
