"""Run the cells of a study that are not done, beside any other process that does the same."""

import gc
import time
from collections.abc import Sequence

from tqdm import tqdm

from derl.options import Options
from derl.study.cell import Cell
from derl.study.ledger import Ledger
from derl.study.run import run_cell

POLL_SECONDS = 1.0


def work(ledger: Ledger, cells: Sequence[Cell], study: Options) -> None:
    """Run every cell once; wait for those that other processes hold, and take them over should these die."""
    done = len(cells) - len(ledger.missing(cells))
    with tqdm(total=len(cells), initial=done, desc="cells", unit="cell", smoothing=0) as bar:
        while missing := ledger.missing(cells):
            worked = False
            for cell in missing:
                with ledger.claim(cell) as claim:
                    if claim is None:
                        continue
                    bar.set_postfix_str(cell.key)
                    bar.refresh()
                    claim.finish(run_cell(cell, study, ledger.folder, ledger.work_folder(cell)))
                    worked = True
                gc.collect()
                _show(bar, len(cells) - len(ledger.missing(cells)))
            if not worked:
                bar.set_postfix_str("waiting for other processes")
                time.sleep(POLL_SECONDS)


def _show(bar: tqdm, done: int) -> None:
    bar.n = done
    bar.refresh()
