"""Report registers, spills and shared memory of every kernel configuration that a call can choose, without a GPU.

The op is called with a recorder in place of the kernels, so exactly the launched configurations are compiled. Triton
compiles them ahead of time for each GPU family, and the numbers are read from the binaries.

    python benchmarks/kernel_resources.py    # writes kernel_resources.md and kernel_configurations.csv in results/
    python benchmarks/kernel_resources.py --family sm_90 --print    # one family, as JSON lines
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import modx.ops.triton as kernels
from modx.ops.dispatch import MAX_WIDTH, Arch, max_experts
from modx.ops.mixture import Mixture
from modx.ops.triton import fused, launch, splits, wide

FAMILIES = ("sm_80", "sm_90", "sm_100", "gfx942")
NUM_SMS = 132
RESULTS = Path(__file__).parent / "results"
CONFIGURATIONS = RESULTS / "kernel_configurations.csv"
COLUMNS = (
    *("kernel", "dtype", "d_in", "h", "p", "s", "banks", "splits", "block_t", "block_h"),
    *("stores_hidden", "num_warps", "num_stages"),
)
KERNELS = (  # and the modules that launch them
    (fused, "forward_kernel"),
    (fused, "backward_kernel"),
    (fused, "weights_kernel"),
    (wide, "hidden_kernel"),
    (wide, "hidden_backward_kernel"),
    (splits, "sum_splits_kernel"),
)
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class Recorder:
    """Replaces a kernel and records its launch arguments."""

    def __init__(self, kernel: Any, seen: dict[str, dict[str, Any]]) -> None:
        self.kernel = kernel
        self.seen = seen

    def __getitem__(self, grid: Any) -> "Recorder":
        return self

    def __call__(self, *arguments: Any, **keywords: Any) -> None:
        options = {
            name: keywords.pop(name) for name in ("num_warps", "num_stages", "enable_fp_fusion") if name in keywords
        }
        values = dict(zip(self.kernel.arg_names, arguments, strict=False)) | keywords
        signature = {
            name: "constexpr"
            if parameter.is_constexpr or values[name] is None
            else f"*{NAMES[values[name].dtype]}"
            if isinstance(values[name], torch.Tensor)
            else "i32"
            for name, parameter in zip(self.kernel.arg_names, self.kernel.params, strict=True)
        }
        constants = {name: values[name] for name, kind in signature.items() if kind == "constexpr"}
        record = {"kernel": self.kernel, "signature": signature, "constants": constants, "options": options}
        self.seen[repr((self.kernel.__name__, signature, constants, options))] = record


def record(family: str) -> list[dict[str, Any]]:
    """Record all configurations: each dtype and width, sizes divisible by a tile or not, many tokens to few."""
    seen: dict[str, dict[str, Any]] = {}
    launch.find_arch = lambda device: Arch(family, NUM_SMS)
    for module, name in KERNELS:
        setattr(module, name, Recorder(getattr(module, name), seen))
    torch.set_float32_matmul_precision("high")
    for dtype in (torch.bfloat16, torch.float32):
        for width in (64, 128, 256, 512):
            for dim, hidden_dim in ((width, 2 * width), (width - 16, 2 * width - 48)):
                for tokens in (48, 1536, 8448, 17408):
                    _run(tokens, dim, hidden_dim, dtype)
            if width <= MAX_WIDTH[dtype.itemsize]:
                _run(17408, width, 2 * width, dtype, num_experts=max_experts(width))
    torch.set_float32_matmul_precision("highest")
    _run(1536, 512, 1024, torch.float32)
    return list(seen.values())


def _run(tokens: int, dim: int, hidden_dim: int, dtype: torch.dtype, num_experts: int | None = None) -> None:
    """Run the op with one private and three shared experts, as in the paper, or with other numbers."""
    group_sizes = [tokens // 3] * 2 + [tokens - 2 * (tokens // 3)]
    private, shared = (1, 3) if num_experts is None else (num_experts, num_experts)
    count = 3 * private + shared
    shapes = [
        (tokens, dim),
        (tokens, private + shared),
        (count, hidden_dim, dim),
        (count, hidden_dim),
        (count, hidden_dim, dim),
        (count, dim),
    ]
    for least_memory in (False, True):
        inputs = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        mixture = Mixture(*inputs, group_sizes, private, shared, "gelu")
        outputs = kernels.expert_mixture(mixture, dtype, least_memory)
        torch.autograd.grad(sum(out.sum() for out in outputs), inputs)


def compile_one(record: dict[str, Any], family: str) -> dict[str, Any]:
    """Compile a configuration and return its resources."""
    kernel, signature, constants = record["kernel"], record["signature"], record["constants"]
    at = {name: (index,) for index, name in enumerate(kernel.arg_names)}
    source = ASTSource(
        kernel,
        signature,
        {at[name]: value for name, value in constants.items()},
        {at[name]: [["tt.divisibility", 16]] for name, kind in signature.items() if kind.startswith("*")},
    )
    amd = family.startswith("gfx")
    target = GPUTarget("hip", family, 64) if amd else GPUTarget("cuda", int(family[3:]), 32)
    compiled = triton.compile(source, target=target, options=record["options"])
    registers, spilled = _read_amd(compiled.asm["amdgcn"]) if amd else _read_nvidia(compiled.asm["cubin"])
    shown = {name: constants.get(name) for name in ("D_IN", "H", "P", "S", "BANKS", "SPLITS", "BLOCK_T", "BLOCK_H")}
    return {
        "family": family,
        "kernel": kernel.__name__,
        "dtype": next(kind for name, kind in signature.items() if kind.startswith("*"))[1:],
        **{name.lower(): value for name, value in shown.items() if value is not None},
        "stores_hidden": signature.get("hidden", "constexpr") != "constexpr",
        "num_warps": record["options"].get("num_warps", 4),
        "num_stages": record["options"].get("num_stages", 3),
        "registers": registers,
        "spilled_bytes": spilled,
        "shared_kib": compiled.metadata.shared / 1024,
    }


def _read_nvidia(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of local memory (the stack, which holds spills) per thread."""
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run([program, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    return int(registers), int(stack)


def _read_amd(assembly: str) -> tuple[int, int]:
    """Return vector registers (including accumulation registers) and bytes of scratch, which holds spills, per lane."""
    registers = int(re.search(r"\.vgpr_count:\s+(\d+)", assembly)[1])
    return registers, int(re.search(r"\.private_segment_fixed_size:\s+(\d+)", assembly)[1])


def measure(family: str) -> Iterator[dict[str, Any]]:
    for found in record(family):
        yield compile_one(found, family)


def measure_apart(families: Sequence[str] = FAMILIES) -> dict[str, list[dict[str, Any]]]:
    """Measure each family in its own process, since a compiler can crash; one process per core at a time."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}

    def run(family: str) -> list[dict[str, Any]]:
        command = [sys.executable, __file__, "--family", family, "--print"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        return [json.loads(line) for line in output.splitlines()]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(families, pool.map(run, families), strict=True))


def configurations(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], list[str]]:
    """Return the families of each configuration, i.e. a table row without the family and the compiler's numbers."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        families = found.setdefault(tuple(str(row.get(name, "")) for name in COLUMNS), [])
        if row["family"] not in families:
            families.append(row["family"])
    return found


def write_configurations(rows: Sequence[dict[str, Any]]) -> None:
    """Write one line per configuration, below the Triton version for which the tiles were chosen."""
    lines = [f"# Triton {triton.__version__}", ",".join(("families", *COLUMNS))]
    lines += [",".join((" ".join(families), *values)) for values, families in configurations(rows).items()]
    CONFIGURATIONS.write_text("\n".join(lines) + "\n")


def read_configurations() -> tuple[str, dict[tuple[str, ...], list[str]]]:
    """Read the Triton version, and the families of each configuration."""
    version, header, *lines = CONFIGURATIONS.read_text().splitlines()
    assert header == ",".join(("families", *COLUMNS))
    rows = [line.split(",") for line in lines]
    return version.removeprefix("# Triton "), {tuple(values): families.split() for families, *values in rows}


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "Every configuration of the kernels that a call can choose, as compiled: registers per thread, bytes spilled, "
        "and KiB of shared memory. Compiled ahead of time, GELU; nothing here was run on a GPU. A pair of "
        "figures: sizes that the tile divides / other sizes (multiples of 16, which the op pads to).",
        "",
        "| kernel | dtype | width | tile (tokens x hidden, warps, stages) | arch | registers | spilled | shared |",
        "|---|---|---|---|---|---|---|---|",
    ]
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["kernel"] == "sum_splits_kernel":
            continue
        width = -(-row["d_in"] // 64) * 64
        tile = f"{row['block_t']} x {row['block_h']}, {row['num_warps']}, {row['num_stages']}"
        form = "".join(
            [
                ", hidden stored" if row["stores_hidden"] and row["kernel"] == "backward_kernel" else "",
                ", split" if row.get("splits", 1) > 1 else "",
                ", separate banks" if row.get("banks", 1) > 1 else "",
                f", {row['s']} experts" if row.get("s", 3) > 3 else "",
            ]
        )
        key = row["kernel"].removesuffix("_kernel") + form, row["dtype"], width, tile, row["family"]
        grouped.setdefault(key, []).append(row)
    for key, found in grouped.items():
        even = [row for row in found if row["d_in"] % 64 == 0]
        odd = [row for row in found if row["d_in"] % 64]
        pairs = [
            " / ".join(f"{max(row[name] for row in part):.0f}" for part in (even, odd) if part)
            for name in ("registers", "spilled_bytes", "shared_kib")
        ]
        lines.append("| " + " | ".join(map(str, (*key, *pairs))) + " |")
    lines += ["", f"Triton {triton.__version__}; `python benchmarks/kernel_resources.py`", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--family", choices=FAMILIES, help="one family of chips only")
    parser.add_argument("--print", action="store_true", help="print JSON lines instead of writing the table")
    options = parser.parse_args()
    if options.print:
        for row in measure(options.family):
            print(json.dumps(row), flush=True)
        return
    families = FAMILIES if options.family is None else (options.family,)
    rows = [row for part in measure_apart(families).values() for row in part]
    RESULTS.mkdir(exist_ok=True)
    write_configurations(rows)
    (RESULTS / "kernel_resources.md").write_text(to_markdown(rows))
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
