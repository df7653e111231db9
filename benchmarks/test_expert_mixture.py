"""The expert mixture under pytest-benchmark: ``pytest benchmarks/test_expert_mixture.py -n 0 --benchmark-only``."""

import shutil

import pytest

from expert_mixture_cpu import COMPILED, PROVIDERS, SIZES, make_calls

needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("provider", [*PROVIDERS, *(pytest.param(name, marks=needs_compiler) for name in COMPILED)])
def test_forward_and_backward(benchmark, provider, size):
    """Outputs and gradients agree with the loop's; then calls are timed, one of the loop's, untimed, before each."""
    benchmark.group = "expert mixture, T x D x H = {} x {} x {}".format(*size)
    calls = make_calls(*size, (provider,))
    benchmark.pedantic(calls[provider], args=(True,), setup=lambda: calls["loop"](True), rounds=15, warmup_rounds=1)
