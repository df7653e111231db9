"""Find the model that the page shows, and samples to try it on."""

import json
from pathlib import Path

from derl.data.console import say
from derl.data.labels import as_classes
from derl.data.load import load_data
from derl.data.mmsa import TEXT_FEATURES
from derl.data.split import DataError, Split, load_splits
from derl.data.table import Table
from derl.demo.explorer import Explorer
from derl.evaluate.tasks import task_of
from derl.model.saved import model_folder
from derl.predict.predictor import load
from derl.train.fit import fit, open_trainer
from derl.train.options import parse
from derl.train.run import DATA, OPTIONS, RunFolder
from derl.train.setup import Setup, synthetic_data

RUNS = Path("runs")
EPOCHS = 5  # the default run takes 15


def open_explorer(model: str | None, data: str | None) -> tuple[Explorer, str]:
    """Load a model, and the test samples of its run or of other data.

    Args:
        model: folder of a run or of a model. Default: the latest run in ``runs``, or else a small model trained now.
        data: a table, an MMSA-layout pickle or a ``.safetensors`` file. Default: the data of the run, if available.

    Returns:
        ``(explorer, title)``; the title names the model and the data.

    Raises:
        DataError: The model or the data cannot be read, or they do not match.
    """
    folder = model_folder(model or latest_run() or train())
    predictor = load(folder)
    classify = task_of(predictor.model.config).classify
    splits, source = _splits(
        folder, data, text_features=TEXT_FEATURES in predictor.modalities, table=Table(classify=classify)
    )
    if classify and splits is not None and "train" in splits:
        splits = as_classes(splits)
    split = None if splits is None else splits.get("test", next(iter(splits.values())))
    explorer = Explorer(predictor, split)
    if explorer.split is None and "text" not in explorer.predictor.modalities:
        raise DataError(f"{folder}: expected data for a model that reads no text, found none; pass --data.")
    if explorer.split is not None:
        explorer.explore(0, explorer.text(0), 0.0, "frames")  # fails here unless data and model match
    return explorer, f"The model is `{folder}`; {source}."


def latest_run() -> Path | None:
    """Return the run in ``runs`` that finished training last, or None."""
    finished = sorted(RUNS.glob("*/model/checkpoint.json"), key=lambda path: path.stat().st_mtime)
    return finished[-1].parents[1] if finished else None


def train() -> Path:
    """Train DERL on synthetic data for a few epochs, and return the run's folder."""
    with RunFolder.open(parse(["--epochs", str(EPOCHS)])) as (folder, options):
        say(
            f"no finished run in {RUNS}: training DERL once on synthetic data (--epochs {EPOCHS}); the run's folder is "
            f"{folder.path}"
        )
        setup = Setup.build(options, folder)
        fit(open_trainer(setup, folder), setup, folder)
        return folder.path


def _splits(
    folder: Path, data: str | None, *, text_features: bool, table: Table
) -> tuple[dict[str, Split] | None, str]:
    """Return the samples and their source: a file, the run's converted data, or synthetic data drawn again."""
    run = folder.parent
    if data is not None:
        source = f"the samples come from `{data}`"
        if Path(data).suffix == ".safetensors":  # may hold only the test split
            return load_splits(Path(data)), source
        return load_data(data, None, text_features=text_features, table=table), source
    if (run / OPTIONS).is_file():
        options = json.loads((run / OPTIONS).read_text())
        if options["data"] is None:
            return synthetic_data(options["preset"]).splits, "the samples are SYNTHETIC, not real speech"
        if (run / DATA).is_file():
            return load_splits(run / DATA), f"the samples come from `{run / DATA}`"
    return None, "there are no samples to pick from; pass `--data` to add some"
