"""Every configuration that a call can choose compiles, for every family of chips, without spilling a register."""

import pytest
import triton

from kernel_resources import FAMILIES, configurations, measure_apart, read_configurations
from modx.ops.triton.tiles import SHARED_LIMIT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured() -> dict[str, list[dict]]:
    return measure_apart()


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_spills_and_shared_memory_suffices(measured, family):
    rows = measured[family]
    assert {row["kernel"] for row in rows} == {
        "forward_kernel",
        "backward_kernel",
        "weights_kernel",
        "hidden_kernel",
        "hidden_backward_kernel",
        "sum_splits_kernel",
    }
    version, recorded = read_configurations()
    for row in rows:
        if triton.__version__ == version:  # tiles are chosen by this version's account
            assert row["spilled_bytes"] == 0, row
        assert 0 < row["shared_kib"] <= SHARED_LIMIT[family] or row["kernel"] == "sum_splits_kernel", row
        assert 0 < row["registers"] <= (512 if family.startswith("gfx") else 255), row
    assert configurations(rows).keys() == {values for values, families in recorded.items() if family in families}, (
        "the recorded table is of other configurations: run python benchmarks/kernel_resources.py"
    )
