"""Time the training step with pytest-benchmark: ``pytest benchmarks -n 0 --benchmark-only``."""

import pytest

from training_step import PROVIDERS, make_agreeing_steps, make_batch


@pytest.mark.benchmark(group="training step")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_training_step(benchmark, provider):
    """Check loss and gradients, then time the provider's steps, each after an untimed step of the other provider."""
    batch = make_batch()
    steps = make_agreeing_steps(batch)

    def setup():
        for other in PROVIDERS:
            if other != provider:
                steps[other](batch)

    benchmark.pedantic(steps[provider], args=(batch,), setup=setup, rounds=5, warmup_rounds=1)
