"""DERL's weights can be sharded by FSDP2, banks of experts among them, and gathered again."""

import copy
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from tiny import tiny_text
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from derl import DerlConfig, DerlModel
from derl.train.averaging import AveragedAdamW

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
KINDS = {
    "ddp_cpu": DistributedType.MULTI_CPU,
    "ddp_gpu": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
}


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_every_config(name):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.distributed_type == KINDS[name]
    assert config.num_processes == 2


def test_there_is_no_config_that_is_not_read():
    assert {path.stem for path in CONFIGS.iterdir()} == KINDS.keys()


def make_model():
    torch.manual_seed(0)
    return DerlModel(DerlConfig.smoke(text_config=tiny_text(110), consistency_weight=1.0, complete_weight=1.0))


def make_batch():
    draw = torch.Generator().manual_seed(1)
    inputs = {
        "text": torch.randint(3, 110, (6, 7), generator=draw),
        "audio": torch.randn(6, 9, 5, generator=draw),
        "vision": torch.randn(6, 8, 20, generator=draw),
    }
    masks = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
    keep = {name: torch.rand(mask.shape, generator=draw) < 0.5 for name, mask in masks.items()}
    return {"inputs": inputs, "masks": masks, "keep": keep, "labels": torch.randn(6, generator=draw)}


def train(model, batch):
    """Three steps; the losses, and the scores of the averaged weights."""
    optimizer = AveragedAdamW(model.parameters(), average_decay=0.9, lr=1e-3)
    losses = []
    for _ in range(3):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    optimizer.eval()
    with torch.no_grad():
        return losses, model.eval()(batch["inputs"], batch["masks"], batch["keep"]).prediction


def work(rank, path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=2)
    model = make_model()
    expected = train(copy.deepcopy(model), make_batch())
    layers = {"BertLayer", "TransformerBlock"}
    mesh = init_device_mesh("cpu", (2,))
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    losses, scores = train(model, make_batch())  # the same batch in both: their mean is the one's own
    torch.testing.assert_close(losses, expected[0])
    torch.testing.assert_close(scores, expected[1])
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        whole = make_model()
        whole.load_state_dict(state)
        batch = make_batch()
        with torch.no_grad():
            again = whole.eval()(batch["inputs"], batch["masks"], batch["keep"]).prediction
        torch.testing.assert_close(again, scores)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_shards_train_as_the_whole(tmp_path):
    multiprocessing.spawn(work, args=(tmp_path,), nprocs=2)
