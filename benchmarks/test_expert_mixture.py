"""Time the expert mixture with pytest-benchmark: ``pytest benchmarks/test_expert_mixture.py -n 0 --benchmark-only``."""

import shutil

import pytest

from expert_mixture_cpu import COMPILED, PROVIDERS, SIZES, make_calls

needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("provider", [*PROVIDERS, *(pytest.param(name, marks=needs_compiler) for name in COMPILED)])
def test_forward_and_backward(benchmark, provider, size):
    """Check outputs and gradients against the loop's, then time calls, each after an untimed call of the loop."""
    benchmark.group = "expert mixture, T x D x H = {} x {} x {}".format(*size)
    calls = make_calls(*size, (provider,))
    benchmark.pedantic(calls[provider], args=(True,), setup=lambda: calls["loop"](True), rounds=15, warmup_rounds=1)
