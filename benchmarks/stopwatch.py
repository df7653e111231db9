"""Measure time, memory and launches on a CUDA device, or on a CPU for dry runs.

``CudaStopwatch`` and ``HostStopwatch`` have the same methods, which return None if the host cannot measure.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], object]
NOT_KERNELS = ("Memcpy", "Memset", "##", "Torch-Compiled")  # copies, fills, and compilers' annotations


class CudaStopwatch:
    """Measures with events on the current stream, after flushing the L2 cache."""

    device = torch.device("cuda")

    def __init__(self) -> None:
        self.properties = torch.cuda.get_device_properties(self.device)
        size = max(2 * self.properties.L2_cache_size, 2**26)
        self.flush = torch.empty(size, dtype=torch.int8, device=self.device)

    def seconds(self, call: Call) -> float:
        """Return device seconds from the call's first kernel to its last, including waits for the host."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def wall_seconds(self, call: Call) -> float:
        """Return host seconds until the result is ready, the cost of a single small step."""
        self.flush.zero_()
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def capture(self, call: Call) -> Call:
        """Capture the call as a CUDA graph; a replay overwrites and returns the captured outputs."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call()

        def replay() -> object:
            graph.replay()
            return outputs

        return replay

    def peak_bytes(self, call: Call) -> int | None:
        """Return the peak bytes allocated during the call, above the level before it."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def kept_bytes(self, forward: Callable[[], Iterable[Tensor]]) -> int | None:
        """Return the bytes kept between forward and backward, without the outputs."""
        before = torch.cuda.memory_allocated()
        outputs = tuple(forward())
        torch.cuda.synchronize()
        own = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in outputs}
        return torch.cuda.memory_allocated() - before - sum(own.values())

    def launches(self, call: Call) -> dict[str, int] | None:
        """Return the number of kernels, and of copies and fills, in one call; None if the profiler sees nothing."""
        call()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize()
        on_device = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        kernels = sum(not name.startswith(NOT_KERNELS) for name in on_device)
        copies = sum(name.startswith(NOT_KERNELS[:2]) for name in on_device)
        return {"kernels": kernels, "copies_and_fills": copies} if kernels else None

    def release(self) -> None:
        """Return unused memory to the device."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        major, minor = self.properties.major, self.properties.minor
        return {
            "gpu": self.properties.name,
            "compute_capability": f"{major}.{minor}",
            "multiprocessors": self.properties.multi_processor_count,
            "memory_gib": self.properties.total_memory / 2**30,
            "l2_mib": self.properties.L2_cache_size / 2**20,
            "cuda": torch.version.cuda,
        }


class HostStopwatch:
    """Measures with the host's clock, which only shows that everything runs."""

    device = torch.device("cpu")

    def seconds(self, call: Call) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    wall_seconds = seconds
    capture = None

    def peak_bytes(self, call: Call) -> int | None:
        return None

    def kept_bytes(self, forward: Callable[[], Iterable[Tensor]]) -> int | None:
        return None

    def launches(self, call: Call) -> dict[str, int] | None:
        return None

    def release(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"gpu": None}


Stopwatch = CudaStopwatch | HostStopwatch


def interleaved(measure: Callable[[Call], float], calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Return seconds per call, round by round, in reverse order every second round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        measure(call)
    for index in range(rounds):
        for name in list(calls) if index % 2 else reversed(calls):
            seconds[name].append(measure(calls[name]))
    return seconds


def peak_tflops(stopwatch: Stopwatch, dtype: torch.dtype, size: int) -> float:
    """Return the median TFLOPS of ten large square matmuls."""
    a, b = (torch.randn(size, size, device=stopwatch.device).to(dtype) for _ in range(2))
    seconds = interleaved(stopwatch.seconds, {"product": lambda: a @ b}, 10)["product"]
    return 2 * size**3 / statistics.median(seconds) / 1e12
