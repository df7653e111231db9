"""Print the speedup of each provider over the loop over modules, after pytest-benchmark's own tables."""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    medians: dict[str, dict[str, float]] = {}
    for benchmark in session.benchmarks if session is not None else ():
        if benchmark and benchmark.params and "provider" in benchmark.params:
            medians.setdefault(benchmark.group, {})[benchmark.params["provider"]] = benchmark.stats.median
    for group, by_provider in medians.items():
        base = next((name for name in ("loop", "plain") if name in by_provider), None)
        if base is None:
            continue
        ratios = [f"{name} {by_provider[base] / median:.2f}" for name, median in by_provider.items() if name != base]
        terminalreporter.write_line(f"{group}, median of {base} over that of: {', '.join(ratios)}")
