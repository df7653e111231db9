"""Measure one problem: first the correctness of each provider, then its cost."""

import time
from collections.abc import Callable
from typing import Any

import torch

from correctness import BASELINE_FACTOR, FACTOR, complaints, errors, exact, limits
from problem import SMALL, Problem, make_inputs
from providers import Candidate, CannotRun, Graphed, make_providers
from record import summary
from stopwatch import Stopwatch, interleaved

PASSES = ("forward", "step")


def measure(
    problem: Problem, stopwatch: Stopwatch, implementation: str, rounds: int, peak_tflops: float
) -> dict[str, Any]:
    """Return the results of every provider, or why there are none, and the speedups of "modx" over the others."""
    torch._dynamo.reset()
    candidates, reports = _right_ones(problem, stopwatch, implementation)
    for name in list(candidates):
        try:
            reports[name] |= _memory_and_launches(candidates[name], stopwatch)
        except Exception as error:
            reports[name] |= _not_run(error)
            del candidates[name]
    seconds = _times(problem, candidates, stopwatch, rounds)
    for what, times in seconds.items():
        for name, values in times.items():
            reports[name][what] = summary(values)
    for report in reports.values():
        for kind in PASSES:
            if kind in report:
                tflops = problem.flops[kind] / report[kind]["median"] / 1e12
                report[f"{kind}_tflops"] = tflops
                report[f"{kind}_percent_of_peak"] = 100 * tflops / peak_tflops
    return {
        "problem": problem.as_dict(),
        "flops": problem.flops,
        "providers": reports,
        "speed_up": {what: _ratios(times) for what, times in seconds.items()},
    }


def _right_ones(
    problem: Problem, stopwatch: Stopwatch, implementation: str
) -> tuple[dict[str, Candidate], dict[str, dict[str, Any]]]:
    """Return the providers that run and are correct, and a report of every provider."""
    inputs = make_inputs(problem, stopwatch.device)
    expected = exact(problem, inputs)
    candidates: dict[str, Candidate] = {}
    reports: dict[str, dict[str, Any]] = {}
    yardstick: dict[str, float] | None = None
    for name, build in make_providers(implementation, stopwatch.capture).items():
        start = time.perf_counter()
        try:
            candidate = build(problem, inputs)
            found = errors(candidate.results(), expected)
        except Exception as error:
            reports[name] = _not_run(error)
            continue
        finally:
            stopwatch.release()
        yardstick = found if yardstick is None else yardstick
        allowed = limits(yardstick, problem.torch_dtype, FACTOR if name.startswith("modx") else BASELINE_FACTOR)
        wrong = complaints(found, allowed)
        seconds = time.perf_counter() - start
        reports[name] = {"status": "WRONG" if wrong else "ok", "errors": found, "seconds_to_build": seconds}
        if wrong:
            reports[name]["reason"] = "; ".join(wrong)
        else:
            candidates[name] = candidate
    return candidates, reports


def _memory_and_launches(candidate: Candidate, stopwatch: Stopwatch) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{kind}_peak_bytes": stopwatch.peak_bytes(getattr(candidate, kind)) for kind in PASSES
    } | {f"{kind}_launches": stopwatch.launches(getattr(candidate, kind)) for kind in PASSES}
    if isinstance(candidate, Graphed):
        return found
    found["backward_launches"] = _backward_launches(candidate, stopwatch)
    added = stopwatch.kept_bytes(candidate.forward_for_backward)
    tokens_and_weights = sum(
        leaf.nbytes for leaf in candidate.leaves[:2]
    )  # activations too: a caller keeps them for us
    return found | {"kept_bytes": None if added is None else added + tokens_and_weights}


def _backward_launches(candidate: Candidate, stopwatch: Stopwatch) -> dict[str, int] | None:
    outputs = candidate.forward_for_backward()
    leaves, gradients = candidate.leaves, candidate.output_gradients
    return stopwatch.launches(lambda: torch.autograd.grad(outputs, leaves, gradients, retain_graph=True))


def _times(
    problem: Problem, candidates: dict[str, Candidate], stopwatch: Stopwatch, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Return seconds by kind of measurement and provider, with the providers of a kind interleaved."""
    seconds = {}
    for kind in PASSES:
        calls = {name: getattr(candidate, kind) for name, candidate in candidates.items()}
        seconds[kind] = interleaved(stopwatch.seconds, calls, rounds)
        if problem.tokens > SMALL:
            continue
        seconds[f"wall_{kind}"] = interleaved(stopwatch.wall_seconds, calls, rounds)
        if stopwatch.capture is not None:
            replays = {name: _captured(name, call, stopwatch.capture) for name, call in calls.items()}
            graphs = {name: replay for name, replay in replays.items() if replay is not None}
            seconds[f"graph_{kind}"] = interleaved(stopwatch.seconds, graphs, rounds)
    return seconds


def _captured(name: str, call: Callable[[], object], capture: Callable[..., Any]) -> Callable[[], object] | None:
    if name == "loop":  # "graphed loop" is its graph
        return None
    if name == "graphed loop":
        return call
    try:
        return capture(call)
    except Exception as error:
        print(f"  {name} could not be captured: {_words(error)}")
        torch.cuda.synchronize()
        return None


def _ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Return the speedup of "modx" over each other provider, from the two times of a round."""
    if "modx" not in seconds:
        return {}
    return {
        other: summary([theirs / ours for theirs, ours in zip(values, seconds["modx"], strict=True)])
        for other, values in seconds.items()
        if other != "modx"
    }


def _not_run(error: Exception) -> dict[str, Any]:
    return {"status": "not run", "reason": str(error) if isinstance(error, CannotRun) else _words(error)}


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def expected_seconds(problem: Problem, spent: dict[Problem, float]) -> float:
    """Estimate the seconds from the finished problem of most similar work, in proportion to the work if larger."""
    if not spent:
        return 0.0
    nearest = min(spent, key=lambda other: abs(_work(other) / _work(problem) - 1))
    return spent[nearest] * max(1.0, _work(problem) / _work(nearest))


def _work(problem: Problem) -> float:
    return float(problem.flops["step"])
