"""What Self-MM remembers of training samples: places, labels, checkpoints, and several processes."""

import socket
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import tiny_text

from derl import DerlConfig
from derl.data.collate import Collator
from derl.model.gather import gather_rows
from derl.model.saved import read_model
from derl.model.self_mm import SelfMmModel

LENGTHS = {"text": 9, "audio": 12, "vision": 10}


def make(**settings):
    torch.manual_seed(0)
    config = {"text_config": tiny_text(layers=1), "max_lengths": LENGTHS, "core": {"dim": 8}} | settings
    return SelfMmModel(DerlConfig.smoke(**config))


def batch():
    torch.manual_seed(1)
    inputs = {"text": torch.randint(103, 130, (4, 7)), "audio": torch.randn(4, 12, 5), "vision": torch.randn(4, 8, 20)}
    masks = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
    masks["vision"][0] = False
    return {"inputs": inputs, "masks": masks, "labels": torch.tensor([1.0, -2.0, 0.0, 2.0])}


def visits(model):
    return {name: memory.visits.tolist() for name, memory in model.core.memories.items()}


def test_only_training_with_places_is_remembered():
    model = make().train()
    model.fit_labels(torch.randn(6))
    model(**batch())
    model.eval()(**batch(), index=torch.arange(4))
    assert not any(map(sum, visits(model).values()))
    model.train()(**batch(), index=torch.tensor([5, 0, 2, 3]))
    assert visits(model) == {name: [1, 0, 1, 1, 0, int(name != "vision")] for name in LENGTHS}
    assert model.core.memories["text"].labels[:, 0].tolist() == [-2, 0, 0, 2, 0, 1]


def test_generated_labels_weight_the_loss_from_the_third_visit():
    model, losses = make().train(), []
    model.fit_labels(torch.randn(4))
    for _ in range(3):
        losses.append(model(**batch(), index=torch.arange(4)).losses["unimodal"].item())
    assert losses[:2] == [0, 0]
    assert losses[2] > 0


def test_what_is_remembered_is_saved_and_loaded(tmp_path):
    model = make().train()
    model.fit_labels(torch.randn(6))
    model(**batch(), index=torch.tensor([5, 0, 2, 3]))
    model.save_pretrained(tmp_path)
    loaded = read_model(tmp_path).state_dict()
    assert model.core.memory.features.any()
    assert all(torch.equal(part, loaded[name]) for name, part in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sentiment": False}, [[0.0], [-1.0], [1.0]]),
        ({"problem_type": "single_label_classification", "id2label": dict(enumerate("abc"))}, None),
        ({}, [[1.0], [0.0], [2.0]]),
    ],
)
def test_labels_have_a_sign(settings, expected):
    model = make(**settings)
    model.fit_labels(torch.tensor([0.0, 2.0]))  # mean 1, standard deviation 1
    signed = model.problem.signed(torch.tensor([1.0, 0.0, 2.0])).tolist()
    assert signed == (expected or [[-1, 1, -1], [1, -1, -1], [-1, -1, 1]])


def test_the_collator_gives_places_if_asked():
    part = {name: {"audio": torch.ones(2, dtype=torch.bool)} for name in ("inputs", "masks", "keep")}
    items = [part | {"index": index} for index in (4, 0)]
    assert "index" not in Collator(0)(items)
    assert Collator(0, with_index=True)(items)["index"].tolist() == [4, 0]


def test_rows_of_all_processes_are_remembered():
    model = make().train()
    model.fit_labels(torch.randn(6))
    others = (torch.tensor([3, 1]), torch.tensor([0, 4]))

    def both(parts):
        found, labels, _ = parts
        return found, labels, torch.cat(others)

    with patch("derl.model.self_mm.gather_rows", side_effect=both):
        model(**batch(), index=torch.tensor([5, 0, 2, 3]))
    assert visits(model)["text"] == [1, 1, 0, 1, 1, 0]


def _gather(rank, port, queue):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = torch.arange(rank + 2) + 10 * rank
    found = gather_rows((rows, {"x": rows[:, None].float().requires_grad_()}))
    queue.put((rank, found[0].tolist(), found[1]["x"].tolist(), found[1]["x"].requires_grad))
    dist.destroy_process_group()


@pytest.mark.slow
def test_every_process_gets_the_rows_of_all():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    mp.spawn(_gather, (port, queue), nprocs=2)
    whole = [0, 1, 10, 11, 12]
    for rank, found in enumerate(sorted(queue.get() for _ in range(2))):
        assert found == (rank, whole, [[float(row)] for row in whole], False)


def test_one_process_keeps_its_rows():
    rows = torch.arange(3)
    assert gather_rows((rows,))[0] is rows
