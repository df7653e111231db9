"""What tools do to a module: adapters by peft, and the replicas of DataParallel."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from modx import Experts

STEPS = 4


def adapt(module: nn.Module) -> PeftModel:
    """Add LoRA to every linear layer and every bank of experts."""
    banks = [name for name, part in module.named_modules() if isinstance(part, Experts)]
    config = LoraConfig(
        r=2,
        target_modules=[name for name, part in module.named_modules() if isinstance(part, nn.Linear)] or None,
        target_parameters=[f"{bank}.{weight}" for bank in banks for weight in ("w1", "w2")],
    )
    return get_peft_model(module, config)


def train_adapters(module: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Take a few steps, each with a gradient for every adapter."""
    adapters = {name: part for name, part in module.named_parameters() if "lora_" in name}
    optimizer = torch.optim.Adam(adapters.values(), lr=0.05)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss().backward()
        still = [name for name, part in adapters.items() if part.grad is None or not part.grad.any()]
        assert [name for name in still if "lora_B" in name or step] == []  # A gets a gradient once B is not zero
        optimizer.step()


def replicate(module: nn.Module) -> nn.Module:
    """Do what ``torch.nn.parallel.replicate`` does for a GPU: parameters become attributes that are no parameters."""
    copies = {part: part._replicate_for_data_parallel() for part in module.modules()}
    for part, replica in copies.items():
        replica._former_parameters = OrderedDict()
        for name, child in part._modules.items():
            setattr(replica, name, None if child is None else copies[child])
        for name, parameter in part._parameters.items():
            setattr(replica, name, None if parameter is None else parameter.view_as(parameter))
            replica._former_parameters[name] = getattr(replica, name)
        for name, buffer in part._buffers.items():
            setattr(replica, name, buffer.clone())
    return copies[module]
