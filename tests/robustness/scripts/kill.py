"""Kill a training run at random moments and at its file operations; it must go on and end with the same bits.

python tests/robustness/scripts/kill.py                        # 50 moments, and every file operation; prints the counts
python tests/robustness/scripts/kill.py --moments 5 --files 7
"""

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

from processes import SMOKE, finish, start

WORSE = (  # every epoch is worse than the first, whose checkpoint is chosen
    *("--learning_rate", "0.3", "--max_grad_norm", "1", "--standardize", "true"),
    *("--orthogonality_weight", "0.1", "--reconstruction_weight", "0.1"),
)


def main() -> int:
    """Run the command."""
    options = parse()
    for seed, (recipe, *more) in enumerate((("paper", *WORSE), ("robust",))):
        with tempfile.TemporaryDirectory() as scratch:
            trial = Trial(Path(scratch), recipe, *more, pictures=True)
            print(f"recipe {recipe}, uninterrupted: {trial.seconds:.1f} s, {trial.events} file operations")
            stages = Counter(trial.kill_at_moments(options.moments // 2, options.seed + seed))
            print(f"killed at {stages.total()} random moments, each went on to the same predictions, bit by bit:")
            for stage, count in stages.most_common():
                print(f"  {count:4d} {stage}")
            stages = Counter(trial.kill_at_files(options.files))
            print(f"killed just before {stages.total()} file operations, the same:")
            for stage, count in stages.most_common():
                print(f"  {count:4d} {stage}", flush=True)
    return 0


class Trial:
    """A run that was never interrupted, and others of the same options that are.

    Args:
        scratch: a folder for all of them.
        recipe: of all of them, with more options.
        pictures: whether they draw what a run's pictures show, which takes a third of their time.
    """

    def __init__(self, scratch: Path, recipe: str = "robust", *more: str, pictures: bool = False) -> None:
        self.scratch, self.arguments, self.pictures = scratch, [*SMOKE[:-1], recipe, *more], pictures
        finish(start(["--help"], scratch / "warm.log"))  # imports
        folder, log = scratch / "whole", scratch / "whole.log"
        started = monotonic()
        code = finish(self._start([*self.arguments, "--output_dir", str(folder)], log, folder=folder))
        self.seconds = monotonic() - started
        assert code == 0, log.read_text()
        self.events = int(re.findall(r"file operations: (\d+)", log.read_text())[-1])
        self.expected = read_predictions(folder)

    def kill_at_moments(self, count: int, seed: int) -> Iterator[str]:
        """Kill runs at moments drawn evenly over an uninterrupted one; yield the stage that each was in."""
        draw = random.Random(seed)
        for number in range(count):
            folder = self.scratch / f"moment{number}"
            process = self._start([*self.arguments, "--output_dir", str(folder)], folder.with_suffix(".log"))
            process.join(draw.uniform(0, self.seconds))
            process.kill()
            process.join()
            yield self._go_on(folder, process.exitcode)

    def kill_at_files(self, count: int | None) -> Iterator[str]:
        """Kill runs at every file operation, or at some spread over all."""
        step = 1 if count is None else max(self.events // count, 1)
        for number in range(1, self.events + 1, step):
            folder = self.scratch / f"file{number}"
            arguments = [*self.arguments, "--output_dir", str(folder)]
            process = self._start(arguments, folder.with_suffix(".log"), folder=folder, kill_at=number)
            yield self._go_on(folder, finish(process))

    def _start(self, arguments: list[str], log: Path, **options: Any) -> BaseProcess:
        return start(arguments, log, pictures=self.pictures, **options)

    def _go_on(self, folder: Path, code: int | None) -> str:
        """Start the run again, as its user would, and compare."""
        stage = "after its end" if code == 0 else describe(folder)
        assert code in (0, -9), (code, folder.with_suffix(".log").read_text())
        check_whole(folder)
        started = (folder / "options.json").exists()
        arguments = ["--resume", str(folder)] if started else [*self.arguments, "--output_dir", str(folder)]
        log = folder.with_suffix(".again.log")
        assert finish(self._start(arguments, log)) == 0, (stage, log.read_text())
        assert read_predictions(folder) == self.expected, stage
        assert not [path for path in folder.rglob("*.tmp") if path.is_dir()], stage
        return stage


def describe(folder: Path) -> str:
    """The stage that a run was in when it ended."""
    if not (folder / "options.json").exists():
        return "before its options were written: started again"
    if (folder / "report.md").exists():
        return "after its report"
    if (folder / "results.json").exists():
        return "writing its report"
    if (folder / "model").exists():
        return "judging the test split"
    if (folder / ".model.tmp").exists():
        return "writing the model"
    checkpoints = list(folder.glob("checkpoints/checkpoint-*"))
    if [path for path in checkpoints if not (path / "checksums.json").exists()]:
        return "writing or removing a checkpoint"
    return f"training, {'some' if checkpoints else 'no'} checkpoint written"


def check_whole(folder: Path) -> None:
    """What a name stands for is all there, whenever the run died."""
    for name in ("results.json", "options.json"):
        path = folder / name
        assert not path.exists() or path.read_text().rstrip().endswith("}"), path
    for path in folder.glob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), path
    predictions = folder / "predictions.csv"
    assert not predictions.exists() or len(predictions.read_text().splitlines()) == 25
    assert not (folder / "model").exists() or (folder / "model" / "checkpoint.json").exists()


def read_predictions(folder: Path) -> bytes:
    return (folder / "predictions.csv").read_bytes()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--moments", type=int, default=50, help="random moments to kill at, half of them by each recipe"
    )
    parser.add_argument("--files", type=int, default=None, help="file operations to kill at; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
