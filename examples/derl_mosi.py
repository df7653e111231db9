"""Train DERL on sentiment, evaluate it with missing input, and report.

python examples/derl_mosi.py                                                   # synthetic data, no downloads
python examples/derl_mosi.py --data unaligned_50.pkl --text_encoder bert-base-uncased
python examples/derl_mosi.py --resume runs/20260101-120000                     # resume a run that stopped
python examples/derl_mosi.py --evaluate runs/20260101-120000                   # evaluate its model again
python examples/derl_mosi.py --evaluate runs/20260101-120000 --eval_pattern bursts
torchrun --nproc-per-node 2 examples/derl_mosi.py                              # two processes, the same batches
"""

import sys
import traceback
from time import perf_counter

from ending import Stopped, command

# isort: split
from accelerate import PartialState
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from derl.data.console import say
from derl.data.split import DataError
from derl.evaluate.protocol import evaluate
from derl.report.card import write_card
from derl.report.write import write_report
from derl.train.departures import announce
from derl.train.fit import fit, open_trainer
from derl.train.options import Options, parse
from derl.train.processes import join
from derl.train.provenance import provenance
from derl.train.run import RunError, RunFolder
from derl.train.setup import Setup
from derl.train.stopping import stoppable


@command
def main() -> int:
    """Run the command; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C or SIGTERM, 1 when it broke."""
    asked = parse()
    state = join()
    disable_progress_bar()  # for reading and writing weights; training and evaluation keep their bars
    try:
        with stoppable(), RunFolder.open(asked) as (folder, options):
            return attempt(options, folder)
    except (DataError, RunError) as error:
        if state.is_main_process:
            print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        state.destroy_process_group()


def attempt(options: Options, folder: RunFolder) -> int:
    """Set up and run; if the run stops early, print how to resume it."""
    state = PartialState()
    if options.evaluate is None:
        say(announce(options))
    try:
        try:
            setup = Setup.build(options, folder)
        except BaseException:
            if options.resume is None and options.evaluate is None and state.is_main_process:
                folder.abandon()
            raise
        return run(setup, folder)
    except (DataError, RunError):
        raise
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {folder.remedy}" if state.is_main_process else "") from None
    except Exception as error:
        if not isinstance(error, OSError | SafetensorError) and "DataLoader worker" not in str(error):
            traceback.print_exc()  # not a full disk, a removed folder or a killed worker: perhaps a bug
        print(f"\nerror: {type(error).__name__}: {error}; {folder.remedy}", file=sys.stderr)
        return 1


def run(setup: Setup, folder: RunFolder) -> int:
    """Train, except with ``--evaluate``; then evaluate and report."""
    started = perf_counter()
    trainer = open_trainer(setup, folder)
    if setup.options.evaluate is None:
        precision = " in bf16 autocast (--precision fp32 is slower and exact)" if trainer.args.bf16 else ""
        say(f"training {setup.model_name} on {setup.data_name}{precision}; all files go to {folder.path}")
        fit(trainer, setup, folder)
    trained = perf_counter()
    pattern = setup.options.eval_pattern
    results, predictions, calibration = evaluate(
        trainer,
        setup.dataset,
        setup.splits["train"].labels,
        model_name=setup.model_name,
        pattern=pattern,
        best_possible=setup.best_possible,
    )
    seconds = {"train": trained - started, "evaluate": perf_counter() - trained}
    if not trainer.is_world_process_zero():
        return 0
    results = provenance(setup, folder.checkpoint(), seconds) | results
    report = folder.report(pattern)
    write_report(results, predictions, report)
    if report == folder.path:
        calibration.save(folder.path / "model")
        write_card(results, setup.model.config, folder.path / "model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
