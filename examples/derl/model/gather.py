"""gather_rows: the rows of all processes that train together."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

Parts = TypeVar("Parts")


def gather_rows(parts: Parts) -> Parts:
    """Concatenate tensors of rows over all processes, in the order of their ranks, without gradients.

    Args:
        parts: tensors ``(B, ...)`` in tuples and mappings; B may differ between processes. One process gets them back.
    """
    if not dist.is_available() or not dist.is_initialized():
        return parts
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, tree_map(lambda part: part.detach().cpu(), parts))

    def join(part: Tensor, *rows: Tensor) -> Tensor:
        return torch.cat(rows).to(part.device)

    joined: Parts = tree_map(join, parts, *found)
    return joined
