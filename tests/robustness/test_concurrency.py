"""Threads share modules, processes share folders; neither gets in the other's way."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from folding import encoding
from kill import read_predictions
from modx import BottleneckEncoder, HybridExpertDisentangler, ModalityRouter, MultiLevelReconstructor
from modx.missing import drop
from processes import SMOKE, finish, start


def chain():
    names = ("a", "b")
    lengths = dict.fromkeys(names, 20)
    encoder = BottleneckEncoder({"a": 6, "b": 3}, 16, num_tokens=3, num_heads=2, head_dim=8, max_lengths=lengths)
    blocks = (
        HybridExpertDisentangler(names, 16, 24),
        MultiLevelReconstructor(names, 16, 8),
        ModalityRouter(names, 16, 8),
    )
    return torch.nn.ModuleList([encoder, *blocks]).eval()


def score(modules, inputs, masks):
    encoder, disentangle, rebuild, fuse = modules
    with torch.inference_mode():
        features = encoder(inputs, masks)
        views = disentangle(features)
        rebuilt = rebuild(features, views)
        fused = fuse(views.private, views.shared)
    return torch.cat([fused.features.flatten(), *(part.flatten() for part in rebuilt.joint.values())])


@pytest.mark.parametrize("how", ["folded", "ordinary"])
def test_eight_threads_give_what_one_gives(how):
    modules, requests = chain(), []
    for seed in range(64):
        draw = torch.Generator().manual_seed(seed)
        shape = 1 + seed % 3, 1 + seed % 20
        inputs = {name: torch.randn(*shape, width, generator=draw) for name, width in (("a", 6), ("b", 3))}
        real = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
        requests.append((inputs, drop(real, 0.4, generator=draw)))
    with encoding(how), ThreadPoolExecutor(8) as pool:
        alone = [score(modules, *request) for request in requests]
        together = list(pool.map(lambda request: score(modules, *request), requests * 4))
    assert len(together) == 256
    assert all(torch.equal(got, alone[index % 64]) for index, got in enumerate(together))


def test_eight_threads_draw_what_one_draws_from_generators_of_their_own():
    mask = {"a": torch.ones(50, 30, dtype=torch.bool), "b": torch.ones(50, 20, dtype=torch.bool)}

    def lose(seed):
        return drop(mask, 0.5, "bursts", generator=torch.Generator().manual_seed(seed))

    alone = [lose(seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lose, list(range(16)) * 4))
    assert all(torch.equal(got["a"], alone[index % 16]["a"]) for index, got in enumerate(together))


@pytest.mark.slow
def test_a_second_process_is_told_that_the_folder_is_taken(trial, tmp_path):
    folder = tmp_path / "run"
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    both = [start([*SMOKE, "--output_dir", str(folder)], log) for log in logs[:2]]  # at one moment
    codes = [finish(process) for process in both]
    assert sorted(codes) == [0, 2], [log.read_text() for log in logs[:2]]
    refused = logs[codes.index(2)].read_text()
    assert "expected a new or empty folder" in refused or "that no other process works in" in refused
    assert "Traceback" not in refused
    assert read_predictions(folder) == trial.expected


@pytest.mark.slow
def test_a_run_cannot_be_resumed_while_it_runs(tmp_path):
    folder, logs = tmp_path / "run", [tmp_path / "a.log", tmp_path / "b.log"]
    first = start([*SMOKE, "--epochs", "60", "--output_dir", str(folder)], logs[0])
    while not (folder / "options.json").exists():
        time.sleep(0.01)
    second = start(["--resume", str(folder)], logs[1])
    assert finish(second) == 2, logs[1].read_text()
    assert f"{folder}: expected a folder that no other process works in" in logs[1].read_text()
    assert first.is_alive()
    first.terminate()
    assert finish(first) == 130
