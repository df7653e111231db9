"""decayed: the parameters that weight decay acts on."""

from torch import nn

BIASES = ("bias", "b1", "b2")  # b1 and b2 are those of a bank of experts, with a row per expert


def decayed(model: nn.Module) -> set[str]:
    """Return the names of all parameters but biases, those of norms, and the temperatures of routers.

    Example:
        >>> from modx import Router
        >>> sorted(decayed(Router(8, 4, hidden_dim=16)))
        ['logits.w1', 'logits.w2']
    """
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if name not in (*BIASES, "log_temperature") and "norm" not in type(module).__name__.lower()
    }
