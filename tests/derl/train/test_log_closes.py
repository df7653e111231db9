"""The TensorBoard log of a run is closed however training ends."""

from types import SimpleNamespace

import pytest

from derl.model.config import DerlConfig
from derl.train import trainer
from derl.train.trainer import SummaryWriter, attend


def test_a_training_that_fails_closes_its_log(tmp_path, monkeypatch):
    closed = []

    class Writer(SummaryWriter):
        def close(self) -> None:
            closed.append(self.log_dir)
            super().close()

    monkeypatch.setattr(trainer, "SummaryWriter", Writer)
    failing = SimpleNamespace(
        add_callback=lambda callback: None,
        is_world_process_zero=lambda: True,
        options=SimpleNamespace(select_rates=[]),
        model=SimpleNamespace(config=DerlConfig()),
    )
    with pytest.raises(RuntimeError, match="out of memory"), attend(failing, tmp_path):
        raise RuntimeError("out of memory")
    assert closed == [str(tmp_path / "tensorboard")]
