"""How other systems are timed: by their own loops, in checkouts, with given text states. The systems are invented."""

import subprocess
import sys
from itertools import count

import pytest
import torch

import peer_systems
import peers
from peer_systems import Repository, System, cosine_of_three, start_almt
from training_step import make_batch

PROGRAM = """
import argparse
from types import SimpleNamespace
import torch
from models.bert import BertTextEncoder

parser = argparse.ArgumentParser()
parser.add_argument("--config_file")
config = parser.parse_args().config_file
device = None
args = SimpleNamespace(base=SimpleNamespace(lr=0.1, weight_decay=0.0))
losses = []

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = BertTextEncoder("pretrained"), torch.nn.Linear(768, 1)

    def forward(self, text):
        return self.head(self.encoder(text)).mean(1)

def build_model(args):
    return Model()

def train(model, batches, optimizer, loss_fn, metrics):
    print("training")
    for batch in batches:
        optimizer.zero_grad()
        loss = loss_fn(model(batch["text"].to(device)), batch["labels"]["M"].to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
"""
ENCODER = """
class BertTextEncoder:
    def __init__(self, pretrained):
        raise OSError("no pretrained text encoder is here")
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An invented ALMT, whose modules are forgotten afterwards."""
    (tmp_path / "ALMT/models").mkdir(parents=True)
    (tmp_path / "ALMT/train.py").write_text(PROGRAM)
    (tmp_path / "ALMT/models/bert.py").write_text(
        ENCODER.replace("class BertTextEncoder:", "import torch\n\n\nclass BertTextEncoder(torch.nn.Module):")
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path / "ALMT"
    for name in {"train", "models", "models.bert", "tensorboardX"} - before:
        sys.modules.pop(name, None)


def test_a_system_trains_by_its_own_loop_on_given_text_states(checkout):
    result = peers.measure(System(start_almt), checkout, rounds=2, batch_size=2)
    program = sys.modules["train"]
    assert program.config == str(checkout / "configs/mosi.yaml")
    assert len(program.losses) == 3  # the first is not timed
    assert program.losses[-1] < program.losses[0]
    assert result["parameters"]["system"] == 768 + 1
    assert result["batch_size"] == 2
    assert all(len(times) == 2 for of in result["seconds"].values() for times in of.values())


class TestTimedBatches:
    @pytest.fixture
    def clock(self, monkeypatch):
        """Seconds that only the loop and modx advance."""
        seconds = {"now": 0.0}
        monkeypatch.setattr(peers, "CLOCKS", dict.fromkeys(("wall", "cpu"), lambda: seconds["now"]))
        return seconds

    def batches(self, clock, **passes):
        def modx():
            clock["now"] += 1

        return peers.TimedBatches({}, System(lambda *_: None, **passes), 2, modx)

    def test_a_step_of_two_passes_is_their_sum_beside_one_step_of_modx(self, clock):
        batches = self.batches(clock, untimed_passes=1, timed_passes=2, untimed_steps=1)

        def train():
            for passed in count():
                for _ in batches:
                    clock["now"] += 10**passed

        with pytest.raises(peers.Finished):
            train()
        assert batches.seconds()["system"] == {"wall": [110.0, 110.0], "cpu": [110.0, 110.0]}
        assert batches.seconds()["modx"] == {"wall": [1.0, 1.0], "cpu": [1.0, 1.0]}

    def test_a_loop_that_ends_early_has_no_result(self, clock):
        batches = self.batches(clock, untimed_passes=1)
        assert len(list(batches)) == 1
        with pytest.raises(AssertionError, match="ended before every step was timed"):
            batches.seconds()


class TestCheckouts:
    @pytest.fixture
    def repository(self, tmp_path):
        def git(*command):
            identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
            return subprocess.run(
                ["git", "-C", str(tmp_path / "Here"), *identity, *command], check=True, capture_output=True, text=True
            ).stdout.strip()

        (tmp_path / "Here").mkdir()
        git("init")
        git("commit", "--allow-empty", "--message", "empty")
        return Repository("Here", "https://example.org/here", git("rev-parse", "HEAD"))

    def test_one_at_its_commit_needs_no_remark(self, repository, tmp_path):
        assert peers.find(repository, tmp_path) == (True, "")

    def test_another_commit_is_named(self, repository, tmp_path):
        other = Repository("Here", repository.address, 40 * "f")
        found, remark = peers.find(other, tmp_path)
        assert found
        assert remark == f"Measured at {repository.commit[:12]}; this script was written for {12 * 'f'}."

    def test_what_is_not_there_is_skipped_and_the_way_to_get_it_is_told(self, repository, tmp_path, monkeypatch):
        elsewhere = Repository("Elsewhere", "https://example.org/elsewhere", 40 * "e")
        monkeypatch.setitem(peers.SYSTEMS, "invented", System(lambda *_: None, elsewhere, note="A note."))
        monkeypatch.setattr(peers, "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", ["peers.py", "--checkouts", str(tmp_path), "--systems", "invented"])
        peers.main()
        table = (tmp_path / "peers.md").read_text()
        assert "- invented: A note. Not measured: there is no folder Elsewhere among the checkouts." in table
        assert f"git clone https://example.org/elsewhere Elsewhere && git -C Elsewhere checkout {12 * 'e'}" in table
        assert str(tmp_path) not in table


def test_the_table_shows_what_is_cheaper_than_modx_below_it():
    def result(seconds, batch_size=64):
        times = {"system": {clock: 3 * [seconds] for clock in ("wall", "cpu")}}
        times["modx"] = {clock: 3 * [2.0] for clock in ("wall", "cpu")}
        parameters = {"system": 1_500_000, "modx": 2_000_000}
        return {"batch_size": batch_size, "parameters": parameters, "seconds": times, "peak_gibibytes": 1.0}

    measured = {"MISA": result(0.5), "LNLN": result(50.0)}
    table = peers.to_markdown(measured, {"MISA": ["A note."], "LNLN": []}, "a command")
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| LNLN | 64 | 1.50 | 50.0 (50.0 to 50.0) | 50.0 (50.0 to 50.0) | 25.0 (25.0 to 25.0) | 1.0 |",
        "| DERL with modx | 64 | 2.00 | 2.00 (2.00 to 2.00) | 2.00 (2.00 to 2.00) | 1 |  |",
        "| MISA | 64 | 1.50 | 0.500 (0.500 to 0.500) | 0.500 (0.500 to 0.500) | 0.250 (0.250 to 0.250) | 1.0 |",
    ]
    assert "- MISA: A note." in table
    assert f"- LNLN: https://github.com/Haoyu-ha/LNLN at `{peers.SYSTEMS['LNLN'].repository.commit[:12]}`" in table


def test_every_commit_is_whole():
    commits = [system.repository.commit for system in peer_systems.SYSTEMS.values() if system.repository is not None]
    assert all(len(commit) == 40 and int(commit, 16) for commit in commits)


def test_the_loss_that_pytorch_refuses_is_that_of_its_definition():
    x, y = (torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(2))
    cosines = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    torch.testing.assert_close(cosine_of_three(x, y, torch.tensor([-1])), cosines.clamp(min=0).mean())


def test_incomplete_inputs_have_zeros_where_frames_are_dropped():
    batch = make_batch(2)
    peer = peer_systems.to_peer_batch(batch)
    assert (peer["audio_m"][~batch["keep"]["audio"]] == 0).all()
    assert (peer["audio_m"][1] == peer["audio"][1]).all()  # every second sample is complete
    assert peer["labels"]["missing_rate_l"][1] == 0 < peer["labels"]["missing_rate_l"][0]


@pytest.mark.slow
def test_a_system_that_fails_is_named_and_the_others_are_timed(checkout, tmp_path, monkeypatch):
    (tmp_path / "LNLN").mkdir()
    (tmp_path / "LNLN/train.py").write_text("raise OSError('no GPU is here')")
    monkeypatch.setattr(peers, "RESULTS", tmp_path)
    command = ["peers.py", "--checkouts", str(tmp_path), "--rounds", "2", "--batch_size", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--systems", "LNLN", "ALMT"])
    peers.main()
    table = (tmp_path / "peers.md").read_text()
    assert "Not measured: exit status 1, OSError: no GPU is here." in table
    assert "\n| ALMT | 2 | 0.00 |" in table
