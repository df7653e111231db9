"""What the benchmarks make of their figures: the table of GPU figures, fits, and no table of a dry run."""

from pathlib import Path

import pytest
import torch

import growth
import table
from matmuls import Matmuls
from problem import Problem, problems

FOLDER = Path(table.__file__).parent


def test_the_page_on_the_kernels_shows_the_gpu_figures_that_there_are():
    text = table.PAGE.read_text()
    assert text.partition(table.BEGIN + "\n")[2].partition("\n" + table.END)[0] == table.page_block()


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".sh")))
def test_every_file_has_a_row_in_the_table_of_benchmarks(file):
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("|")]
    assert any(f"`{file}`" in row.split("|")[1] for row in rows)


def test_no_table_is_made_of_a_dry_run():
    with pytest.raises(ValueError, match="a dry run's figures mean nothing"):
        table.to_markdown({"dry_run": True})


def test_the_exponent_of_a_power_law_is_found_with_its_error():
    sizes = [1, 2, 4, 8, 16]
    assert growth.fit(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(
        {"exponent": 1.5, "standard_error": 0.0, "last_slope": 1.5}, abs=1e-7
    )
    # log2 costs 0, 1, 1 over log2 sizes 0, 1, 2: slope 1/2, residuals -1/6, 1/3, -1/6, so error sqrt(1/6 / 1 / 2)
    fitted = growth.fit([1, 2, 4], [1.0, 2.0, 2.0])
    assert fitted == pytest.approx({"exponent": 0.5, "standard_error": (1 / 12) ** 0.5, "last_slope": 0.0}, abs=1e-12)


def test_every_size_asked_for_is_among_the_problems():
    swept = {(problem.tokens, problem.dim) for problem in problems()}
    assert swept >= {(t, d) for t in (64, 256, 768, 4096, 32768, 262144) for d in (64, 128, 256, 512, 1024)}


def test_groups_are_as_even_as_whole_tokens_allow():
    assert Problem.of(8, 4).group_sizes == (3, 3, 2)


def test_matmuls_are_recorded_forward_and_backward_and_run_alone():
    layer, x = torch.nn.Linear(4, 8), torch.randn(2, 4, requires_grad=True)
    with Matmuls() as matmuls:
        layer(x).sum().backward()
    shapes = [(tuple(left.shape), tuple(right.shape)) for left, right, _ in matmuls.operands]
    assert sorted(shapes) == [((2, 4), (4, 8)), ((2, 8), (8, 4)), ((8, 2), (2, 4))]
    assert matmuls.flop == 3 * 2 * 2 * 4 * 8
    matmuls()
    for left, right, result in matmuls.operands:
        torch.testing.assert_close(result, left @ right)
