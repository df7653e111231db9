"""Train the model of a run and save it."""

from derl.evaluate.conditions import Condition
from derl.train.recipes import describe_selection
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, attend, make_trainer


def open_trainer(setup: Setup, folder: RunFolder) -> SentimentTrainer:
    """Make the trainer of a run, which selects a checkpoint on the validation split at ``select_rates``."""
    rates = setup.options.select_rates or []
    valid = [setup.dataset("valid", Condition(f"r={rate}", rate=rate)) for rate in rates]
    train = setup.dataset("train")
    return make_trainer(SentimentTrainer, setup.model, setup.collator, train, valid, setup.options, folder.path)


def fit(trainer: SentimentTrainer, setup: Setup, folder: RunFolder) -> None:
    """Train, from the last checkpoint if the run is resumed, and save the selected model.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped training, after a checkpoint.
    """
    options = setup.options
    with attend(trainer, folder.path) as stop:
        trainer.train(resume_from_checkpoint=None if options.resume is None else folder.last_checkpoint())
    if stop.stopped:
        raise KeyboardInterrupt
    criterion = describe_selection(options.select_metric or "mae", options.select_rates or [])
    folder.save_model(trainer, setup.tokenizer, criterion)
