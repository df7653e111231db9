"""Score sentiment with a saved DERL model, with any modality missing.

python examples/derl_predict.py MODEL --text "great lovely ship"
python examples/derl_predict.py MODEL --text "great lovely ship" --audio audio.npy --vision vision.npy
python examples/derl_predict.py MODEL --text "great lovely ship" --abstain 3   # no answer if its interval is wider
python examples/derl_predict.py MODEL --csv samples.csv --out scored.csv   # a column per modality
python examples/derl_predict.py MODEL --text "great lovely ship" --out answer.json   # for programs
"""

import math
import os
import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ending import Stopped, command

# isort: split
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: idle threads leave the cores to others

import torch
from transformers.utils.logging import disable_progress_bar

from derl.data.console import wrapped
from derl.data.frames import read_frames
from derl.data.split import DataError
from derl.evaluate.answer import Answer
from derl.evaluate.conformal import CONFIDENCE_LEVEL, check_level
from derl.evaluate.digits import significant
from derl.model.config import DerlConfig
from derl.predict.files import as_columns, check_target, predict_csv, write_answers
from derl.predict.predictor import Predictor, load
from derl.predict.trust import Trust


@command
def main() -> int:
    """Run the command; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    disable_progress_bar()
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        named = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
        predictor = load(sys.argv[1]) if named else None
        options, samples = parse(sys.argv[1:], DerlConfig().modalities if predictor is None else predictor.modalities)
        predictor.trust = Trust(predictor.trust.calibration, options.confidence_level, options.abstain)
        if options.csv is not None:
            count = predict_csv(predictor, Path(options.csv), Path(options.out))
            print(f"{count} samples scored: {options.out}")
        else:
            if options.out is not None:
                check_target(Path(options.out), [Path(value) for name, value in samples.items() if name != "text"])
            with one_thread():
                answer = score(predictor, samples)
            if options.out is not None:
                write_answers([as_columns(answer, predictor.trust)], Path(options.out))
            print(describe(answer, predictor.trust))
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was written") from None
    return 0


def parse(arguments: list[str], names: Sequence[str]) -> tuple[Namespace, dict[str, str]]:
    """Read the command line.

    Args:
        arguments: the command's arguments.
        names: the model's modalities.

    Returns:
        The options, and modality -> text or path for the modalities given.
    """
    parser = ArgumentParser(
        description="Score sentiment with a saved DERL model, with any modality missing.",
        epilog="Pass MODEL first. MODEL --help lists the modalities of that model.",
        conflict_handler="resolve",  # a modality named csv or out is only read from a CSV file
    )
    parser.add_argument("model", metavar="MODEL", help="folder of a run of derl_mosi.py or of its model")
    one = parser.add_argument_group("one sample")
    for name in names:
        text = (
            "text of the sample"
            if name == "text"
            else f"{name} frames: a .npy, .npz or .csv file of shape (frames, features), or a .wav file"
        )
        one.add_argument(f"--{name}", metavar="TEXT" if name == "text" else "FILE", dest=f"sample {name}", help=text)
    many = parser.add_argument_group("many samples")
    many.add_argument(
        "--csv",
        metavar="FILE",
        help=f"CSV file with any of the columns {', '.join(names)}: text as words, the others as paths "
        "of .npy, .npz, .csv or .wav files relative to this file; an empty cell is a missing modality",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=".csv or .json file to write: the columns of --csv, score or class, interval or set of classes, abstains, "
        "weights (required with --csv)",
    )
    trust = parser.add_argument_group("how far to trust a score")
    trust.add_argument(
        "--confidence_level",
        type=_level,
        help=f"how often an interval holds (default: {CONFIDENCE_LEVEL}); intervals are calibrated on validation, for "
        "what is missing from the sample",
    )
    trust.add_argument(
        "--abstain",
        metavar="WIDTH",
        type=_width,
        help="give no answer if its interval is wider, or its set of classes larger (default: always answer)",
    )
    options = parser.parse_args(arguments)
    samples = {name: getattr(options, f"sample {name}", None) for name in names}
    samples = {name: value for name, value in samples.items() if value is not None}
    if arguments[0].startswith("-"):
        parser.error("expected MODEL as the first argument")
    if options.csv is not None and options.out is None:
        parser.error("--csv needs --out")
    if (options.csv is None) == (not samples):
        parser.error(f"give one sample with {', '.join(f'--{name}' for name in names)}, or many with --csv and --out")
    return options, samples


def score(predictor: Predictor, samples: dict[str, str]) -> Answer:
    """Score one sample: text as given, frames from files."""
    return predictor.predict(
        **{name: value if name == "text" else read_frames(value) for name, value in samples.items()}
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, unless OMP_NUM_THREADS says otherwise: one sample is too little work to share."""
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def describe(answer: Answer, trust: Trust) -> str:
    """Format an answer in lines of at most 80 columns."""

    def number(value: float) -> str:
        return f"{value:+.3f}" if answer.sentiment is not None else significant(value, answer.scale)

    lines = [f"score {number(answer.score)}"]
    if answer.sentiment is not None:
        lines = [f"{lines[0]}: {answer.name} (class {answer.sentiment:+d} of -3 to +3)"]
    elif answer.probabilities is not None:
        others = sorted((share, name) for name, share in answer.probabilities.items() if name != answer.name)[:-4:-1]
        shown = ", ".join(f"{name} {share:.3f}" for share, name in others)
        lines = [f"{answer.name}: probability {answer.score:.3f}", f"next: {shown}"]
    level = f"{100 * trust.level:.0f} %"
    if answer.interval is not None:
        low, high = answer.interval
        bounds = "unbounded: too few validation samples" if math.isinf(low) else f"{number(low)} to {number(high)}"
        if answer.abstains:
            lines = [f"no answer: the {level} interval, {bounds}, is wider than {trust.abstain:g}"]
        else:
            lines.append(f"{level} interval {bounds}")
    if answer.classes is not None:
        shown = ", ".join(answer.classes)
        if answer.abstains:
            lines = [f"no answer: the {level} set of classes has more than {trust.abstain:g}: {shown}"]
        else:
            lines.append(f"{level} set of classes: {shown}")
    if answer.weights is not None:
        shares = [f"{name} {weight:.2f}" if weight else f"{name} missing" for name, weight in answer.weights.items()]
        lines.append(f"fusion weights: {', '.join(shares)}")
    return "\n".join(wrapped(line) for line in lines)


def _level(text: str) -> float:
    try:
        level = float(text)
        check_level(level)
    except ValueError:
        raise ArgumentTypeError(f"expected 0.01, 0.02 .. or 0.99, got {text!r}") from None
    return level


def _width(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = -1.0
    if not width >= 0:
        raise ArgumentTypeError(f"expected the widest interval to accept, a number from 0, got {text!r}")
    return width


if __name__ == "__main__":
    sys.exit(main())
