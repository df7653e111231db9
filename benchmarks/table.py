"""Write the table of GPU results in docs/kernel.md: ``python benchmarks/table.py --write``.

Reads ``benchmarks/results/<gpu>/expert_mixture_gpu.json``, and refuses dry runs. ``--folder`` prints the table of one
folder instead.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "kernel.md"
BEGIN, END = "<!-- gpu figures: python benchmarks/table.py --write -->", "<!-- end of gpu figures -->"
NONE_YET = (
    "No GPU has run these kernels yet: there are no GPU figures. `benchmarks/gpu.sh FOLDER` measures them in one "
    "command."
)
OTHERS = ("loop", "wide", "compiled wide", "grouped")

Results = dict[str, Any]


def page_block() -> str:
    """Return the text between the page's two markers."""
    files = sorted(RESULTS.glob("*/expert_mixture_gpu.json"))
    tables = [to_markdown(json.loads(file.read_text())) for file in files]
    return "\n\n".join(tables) if tables else NONE_YET


def to_markdown(results: Results) -> str:
    """Format speedups with quartiles, share of the peak and memory saved; one row per size, base split, bfloat16."""
    if results["dry_run"]:
        raise ValueError("a dry run's figures mean nothing: no table is made of them.")
    rows = [_row(result) for result in sorted(results["results"], key=_order) if _of_the_base(result["problem"])]
    machine = results["machine"]
    return "\n".join(
        [
            "How many times faster `modx` is, forward / forward and backward, median (quartiles of the forward's); MiB",
            "kept for the backward pass; share of what a large matrix product reached in the same run:",
            "",
            f"| T | D | {' | '.join(f'× {other}' for other in OTHERS)} | kept, modx / wide | peak, % |",
            f"|---:|---:|{'---:|' * (len(OTHERS) + 2)}",
            *rows,
            "",
            f"{machine['gpu']}, bfloat16, H = 2D, 3 groups, one private and 3 shared experts; driver "
            f"{results['driver']}, torch {results['torch']}, Triton {results['triton']}; commit {results['commit']}; "
            f"`{results['command']}`. {len(results['not_run'])} sizes were not run.",
        ]
    )


def _order(result: Results) -> tuple[int, int]:
    return result["problem"]["dim"], result["problem"]["tokens"]


def _of_the_base(problem: dict[str, Any]) -> bool:
    split = (problem["num_groups"], problem["num_private"], problem["num_shared"])
    return problem["dtype"] == "bfloat16" and problem["hidden_dim"] == 2 * problem["dim"] and split == (3, 1, 3)


def _row(result: Results) -> str:
    problem, reports = result["problem"], result["providers"]
    cells = [_speed_up(result, other) for other in OTHERS]
    kept = [reports[name].get("kept_bytes") for name in ("modx", "wide")]
    memory = "-" if None in kept else " / ".join(f"{value / 2**20:.0f}" for value in kept)
    peaks = [reports["modx"].get(f"{kind}_percent_of_peak") for kind in ("forward", "step")]
    share = "-" if None in peaks else " / ".join(f"{value:.0f}" for value in peaks)
    return f"| {problem['tokens']} | {problem['dim']} | {' | '.join(cells)} | {memory} | {share} |"


def _speed_up(result: Results, other: str) -> str:
    ratios = [result["speed_up"].get(kind, {}).get(other) for kind in ("forward", "step")]
    if None in ratios:
        return "WRONG" if "WRONG" in (result["providers"][n]["status"] for n in ("modx", other)) else "not run"
    low, high = ratios[0]["quartiles"]
    return f"{ratios[0]['median']:.2f} / {ratios[1]['median']:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/kernel.md")
    parser.add_argument("--folder", type=Path, help="print the table of this folder's results")
    options = parser.parse_args()
    if options.folder is not None:
        print(to_markdown(json.loads((options.folder / "expert_mixture_gpu.json").read_text())))
        return
    block = page_block()
    print(block)
    if options.write:
        pattern = re.compile(f"({re.escape(BEGIN)}\n).*?(\n{re.escape(END)})", re.DOTALL)
        text, count = pattern.subn(lambda match: match[1] + block + match[2], PAGE.read_text())
        if count != 1:
            raise ValueError(
                f"docs/kernel.md was expected to have the markers {BEGIN} and {END} once, has them {count} times."
            )
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
