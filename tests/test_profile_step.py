"""What the profile of a training step says of where its time went."""

import pytest
from torch.profiler import ProfilerActivity, profile

import profile_step
from training_step import TrainingStep, make_batch


@pytest.fixture(scope="module")
def profiled():
    step, batch = TrainingStep("modx"), make_batch(2)
    profile_step.mark(step.model)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        profile_step.take(step, batch)
    return next(event for event in profiler.events() if event.name == profile_step.STEP)


def test_the_blocks_add_up_to_the_step(profiled):
    shares = profile_step.attribute(profiled)
    assert tuple(shares) == profile_step.BLOCKS
    assert sum(share.time for share in shares.values()) == pytest.approx(profiled.cpu_time_total)


def test_every_block_is_where_its_operators_are(profiled):
    operators = {block: share.operators for block, share in profile_step.attribute(profiled).items()}
    assert all(operators.values())
    assert "aten::baddbmm" in operators["MLCR"]  # which runs within the range of the losses
    assert "aten::baddbmm" not in operators["losses"]
    assert any(name.startswith("Optimizer.step") for name in operators["optimizer"])
    assert any("NativeLayerNormBackward" in name for name in operators["backward"])
