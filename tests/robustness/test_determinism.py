"""The same seed gives the same bits, however the data are loaded, batched and ordered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig

from derl.data.collate import Collator
from derl.data.missing import MissingDataset
from derl.data.synthetic import make_synthetic
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from kill import read_predictions
from modx.missing import PATTERNS
from processes import SMOKE, finish, start

LENGTHS = {"text": 14, "audio": 9, "vision": 8}
SCRIPT = Path(__file__).parents[2] / "examples" / "derl_mosi.py"


@pytest.fixture(scope="module")
def made():
    return make_synthetic(sizes={"train": 12, "valid": 6, "test": 17}, max_lengths=LENGTHS | {"text": 12})


def dataset(made, pattern, **options):
    options = {"rate": 0.5} | options
    return MissingDataset(
        made.splits["test"],
        made.tokenizer,
        max_lengths=LENGTHS,
        modalities=("text", "audio", "vision"),
        seed=3,
        pattern=pattern,
        **options,
    )


@pytest.mark.parametrize("options", [{}, {"rate": None, "corrupted_share": 1.0}], ids=["evaluation", "training"])
@pytest.mark.parametrize("pattern", [*PATTERNS, "frames+bursts+block+modalities"])
def test_what_is_lost_depends_on_no_batch_order_or_worker(made, pattern, options):
    data = dataset(made, pattern, **options)
    alone = {index: data[index]["keep"] for index in range(len(data))}
    assert any(not mask.all() for keep in alone.values() for mask in keep.values())
    forward = list(range(17))
    for batch_size, workers, order in ((1, 0, forward), (5, 0, forward[::-1]), (4, 2, torch.randperm(17).tolist())):
        loader = DataLoader(data, batch_size, sampler=order, num_workers=workers, collate_fn=list)
        for item in (item for batch in loader for item in batch):
            assert all(torch.equal(item["keep"][name], alone[item["index"]][name]) for name in item["keep"])


@pytest.mark.parametrize("world_size", [2, 3])
def test_nor_on_the_data_set_that_each_process_makes(made, world_size):
    data = dataset(made, "bursts")
    alone = [data[index]["keep"]["audio"] for index in range(len(data))]
    for rank in range(world_size):  # each with a data set of its own
        own = dataset(made, "bursts")
        for index in range(rank, len(own), world_size):
            assert torch.equal(own[index]["keep"]["audio"], alone[index])


def run(folder, workers):
    """The predictions and the weights of a run with so many processes that load data."""
    log = folder.with_suffix(".log")
    arguments = [*SMOKE, "--epochs", "2", "--num_workers", str(workers), "--output_dir", str(folder)]
    assert finish(start(arguments, log)) == 0, log.read_text()
    return read_predictions(folder), (folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone") / "run", 0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 3])  # one: test_a_killed_process_that_loads_data_is_named
def test_a_run_gives_the_same_bits_with_any_number_of_workers(alone, tmp_path, workers):
    assert run(tmp_path / "run", workers) == alone


TWICE = """
import sys
import torch
sys.path[:0] = sys.argv[1:3]
from test_determinism import train
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)
print(train())
"""


def train():
    """A few steps of the whole model in training, with dropout; the bits of its weights, hashed."""
    import hashlib

    torch.manual_seed(0)
    made = make_synthetic(sizes={"train": 12, "valid": 6, "test": 6}, max_lengths=LENGTHS | {"text": 12})
    widths = {name: part.shape[2] for name, part in made.splits["train"].features.items()}
    text = BertConfig(
        vocab_size=len(made.tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    small = {"dim": 16, "num_heads": 2, "head_dim": 8, "ffn_dim": 16, "expert_dim": 24, "reconstructor_dim": 16}
    small |= {"input_dims": widths, "max_lengths": LENGTHS, "consistency_weight": 1.0}
    model = DerlModel(DerlConfig(text_config=text, **small))
    data = MissingDataset(
        made.splits["train"], made.tokenizer, max_lengths=LENGTHS, modalities=("text", "audio", "vision"), seed=0
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(4):
        for batch in DataLoader(data, 5, shuffle=True, collate_fn=Collator(made.tokenizer.pad_token_id)):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    state = b"".join(part.reshape(-1).view(torch.uint8).numpy().tobytes() for part in model.state_dict().values())
    return hashlib.sha256(state).hexdigest()


@pytest.mark.slow
def test_deterministic_algorithms_exist_for_every_step_and_give_the_same_bits_in_two_processes():
    here = Path(__file__).parent
    command = [sys.executable, "-c", TWICE, str(here), str(SCRIPT.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    runs = [subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300) for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert len(runs[0].stdout.strip()) == 64
    assert runs[0].stdout == runs[1].stdout
