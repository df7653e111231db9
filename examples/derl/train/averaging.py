"""AdamW with a moving average of the weights, to evaluate and save in place of the raw weights."""

from collections.abc import Callable
from typing import Any

import torch


class AveragedAdamW(torch.optim.AdamW):
    """AdamW with an exponential moving average of its parameters (Polyak and Juditsky, 1992; EMA form).

    ``eval`` puts the average into the parameters, and ``train`` restores the trained weights. The Trainer of
    transformers calls them before it evaluates and before it trains. The state dict holds both, so resumed training is
    bitwise identical.

    Args:
        params: passed to ``torch.optim.AdamW``.
        average_decay: decay of the average per step. The first steps use a lower decay, (1 + t) / (10 + t), to forget
            the initial weights.
        options: passed to ``torch.optim.AdamW``.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = AveragedAdamW([weight], average_decay=0.5, lr=1.0, weight_decay=0.0)
        >>> for _ in range(2):
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        >>> optimizer.eval(); average = weight.item(); optimizer.train()
        >>> round(average, 3), round(weight.item(), 3)
        (-1.75, -2.0)
    """

    def __init__(self, params: Any, *, average_decay: float, **options: Any) -> None:
        super().__init__(params, **options)
        for group in self.param_groups:
            group.update(average_decay=average_decay, averaged_steps=0, shows_average=False)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take an optimizer step, and move the average towards the weights."""
        self.train()
        loss = super().step(closure)
        for group in self.param_groups:
            group["averaged_steps"] += 1
            steps = group["averaged_steps"]
            decay = min(group["average_decay"], (1 + steps) / (10 + steps))
            for parameter in group["params"]:
                state = self.state.get(parameter)
                if state:  # a parameter without gradients has no state
                    state.setdefault("average", parameter.detach().clone()).lerp_(parameter, 1 - decay)
        return loss

    def eval(self) -> None:
        """Put the average into the parameters."""
        self._show(True)

    def train(self) -> None:
        """Put the trained weights into the parameters."""
        self._show(False)

    @torch.no_grad()
    def _show(self, average: bool) -> None:
        for group in self.param_groups:
            if group["shows_average"] != average:
                for parameter in group["params"]:
                    hidden = self.state.get(parameter, {}).get("average")
                    if hidden is not None:
                        shown = parameter.clone()
                        parameter.copy_(hidden)
                        hidden.copy_(shown)
                group["shows_average"] = average
