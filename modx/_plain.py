"""is_plain: whether a fast path may read a layer's parameters instead of calling it."""

from torch import nn
from torch.nn.modules import module as _global


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a layer runs the ``forward`` of ``kind`` on ordinary parameters, and nothing else.

    It is False for subclasses (LoRA, parametrizations, quantized layers), for parameters that are tensor subclasses
    (quantized or sharded weights), for a ``forward`` replaced on the instance (offloading), and with hooks.
    """
    hooks = (
        layer._forward_pre_hooks,
        layer._forward_hooks,
        layer._backward_pre_hooks,
        layer._backward_hooks,
        _global._global_forward_pre_hooks,
        _global._global_forward_hooks,
        _global._global_backward_pre_hooks,
        _global._global_backward_hooks,
    )
    wrapped = any(hasattr(parameter, "__tensor_flatten__") for parameter in layer._parameters.values())
    return type(layer) is kind and "forward" not in layer.__dict__ and not wrapped and not any(hooks)
