"""Run the cells of a study that are not done, beside any other process that does the same."""

import gc
import time
from collections.abc import Sequence

from tqdm import tqdm

from derl.data.split import DataError
from derl.study.cell import Cell
from derl.study.ledger import Ledger
from derl.study.run import run_cell
from derl.train.options import Options
from derl.train.run import RunError

POLL_SECONDS = 1.0


def work(ledger: Ledger, cells: Sequence[Cell], study: Options) -> dict[Cell, Exception]:
    """Run every cell once; wait for those that other processes hold, and take them over should these die.

    Returns:
        The cells that failed here, such as one whose training diverged, and why; the others were run all the same.
    """
    failed: dict[Cell, Exception] = {}
    done = len(cells) - len(ledger.missing(cells))
    with tqdm(total=len(cells), initial=done, desc="cells", unit="cell", smoothing=0) as bar:
        while missing := [cell for cell in ledger.missing(cells) if cell not in failed]:
            worked = False
            for cell in missing:
                bar.set_postfix_str(cell.key)
                try:
                    worked = _run(ledger, cell, study) or worked
                except (DataError, RunError):  # of the study, not of the cell
                    raise
                except Exception as error:
                    failed[cell], worked = error, True
                    bar.write(f"{cell.key} failed: {type(error).__name__}: {error}")
                gc.collect()
                bar.n = len(cells) - len(ledger.missing(cells))
                bar.refresh()
            if not worked:
                bar.set_postfix_str("waiting for other processes")
                time.sleep(POLL_SECONDS)
    return failed


def _run(ledger: Ledger, cell: Cell, study: Options) -> bool:
    """Run a cell, unless it is done or held by another process."""
    with ledger.claim(cell) as claim:
        if claim is not None:
            claim.finish(run_cell(cell, study, ledger.folder, ledger.work_folder(cell)))
        return claim is not None
