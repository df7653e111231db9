"""Time the expert mixture on a GPU against alternatives: ``python benchmarks/expert_mixture_gpu.py``.

A provider whose outputs or gradients are too far from float64 is printed as WRONG and not timed. Times are medians and
quartiles of CUDA events around a call; all providers are interleaved in one process, and L2 is flushed before each
call. Up to 4096 tokens, wall time and the replay of a captured graph are measured too. Memory is the peak above the
level before the call. The results file is written after every problem. ``--dry_run`` runs tiny sizes on a CPU; its
numbers mean nothing.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from expectations import CONDITIONS, LABEL, beside, suspicions
from measure import expected_seconds, measure
from problem import Problem, dry_problems, problems
from record import provenance, write
from stopwatch import CudaStopwatch, HostStopwatch, Stopwatch, peak_tflops

ROUNDS = 30
FILE = "expert_mixture_gpu.json"


def run(options: argparse.Namespace, stopwatch: Stopwatch) -> dict[str, Any]:
    """Measure problems, most informative first, until the time budget is used up."""
    start = time.monotonic()
    results: dict[str, Any] = {
        "dry_run": options.dry_run,
        "note": "dry run: figures mean nothing" if options.dry_run else f"{options.rounds} rounds, {CONDITIONS}",
        **provenance(stopwatch.describe()),
        "implementation": options.implementation,
        "peak_tflops": {},
        "results": [],
        "not_run": [],
    }
    spent: dict[Problem, float] = {}
    for problem in dry_problems() if options.dry_run else problems():
        elapsed = time.monotonic() - start
        if elapsed + expected_seconds(problem, spent) > options.budget:
            results["not_run"].append({"problem": problem.as_dict(), "reason": "the time budget was used up"})
            write(options.folder / FILE, results)
            print(f"not run, no time left: {problem}")
            continue
        peaks = results["peak_tflops"]
        if problem.dtype not in peaks:
            peaks[problem.dtype] = peak_tflops(stopwatch, problem.torch_dtype, 256 if options.dry_run else 8192)
        print(f"{problem}", flush=True)
        try:
            result = measure(problem, stopwatch, options.implementation, options.rounds, peaks[problem.dtype])
        except torch.cuda.OutOfMemoryError as error:
            reason = f"out of memory: {str(error).splitlines()[0][:200]}"
            results["not_run"].append({"problem": problem.as_dict(), "reason": reason})
        else:
            result |= {"predictions": beside(result), "suspicions": suspicions(result)}
            results["results"].append(result)
            print(describe(result), flush=True)
        stopwatch.release()
        spent[problem] = time.monotonic() - start - elapsed
        write(options.folder / FILE, results)
    return results


def describe(result: dict[str, Any]) -> str:
    """Summarize the results of a problem for the terminal."""
    lines = []
    for name, report in result["providers"].items():
        if report["status"] != "ok":
            lines.append(f"  {name:18} {report['status']}: {report['reason']}")
            continue
        figures = [f"{kind} {1e6 * report[kind]['median']:.1f} us" for kind in ("forward", "step")]
        figures += [f"{100 * max(report['errors'].values()):.2g} % error at most"]
        lines.append(f"  {name:18} {', '.join(figures)}")
    for row in result["predictions"]:
        measured = "not measured" if row["measured"] is None else f"{row['measured']:.2f} measured"
        lines.append(f"  {row['what']}, {row['pass']}: {measured}, {row['predicted']} {LABEL}")
    return "\n".join([*lines, *(f"  SUSPICIOUS {words}" for words in result["suspicions"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help=f"where {FILE} goes")
    parser.add_argument("--budget", type=float, default=300, help="seconds; no problem is begun that would not fit")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timed calls of each provider, {ROUNDS} or more")
    parser.add_argument("--implementation", default="triton", help="what stands as modx")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes on a CPU: figures mean nothing")
    options = parser.parse_args()
    if options.dry_run:
        print("dry run: figures mean nothing")
        options.rounds = 3
    elif not torch.cuda.is_available():
        parser.error("no CUDA device; --dry_run shows that everything runs")
    elif options.rounds < ROUNDS:
        parser.error(f"a median of fewer than {ROUNDS} rounds is not worth a GPU")
    results = run(options, HostStopwatch() if options.dry_run else CudaStopwatch())
    wrong = [
        f"{name} at {result['problem']}"
        for result in results["results"]
        for name, report in result["providers"].items()
        if report["status"] == "WRONG"
    ]
    print(f"{len(results['results'])} problems measured, {len(results['not_run'])} not run, {len(wrong)} WRONG")
    ran = any(result["providers"]["modx"]["status"] == "ok" for result in results["results"])
    if wrong or not ran:
        raise SystemExit("\n".join(f"WRONG: {line}" for line in wrong) or "modx did not run at any size")


if __name__ == "__main__":
    main()
