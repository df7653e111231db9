"""Training with transformers' Trainer: schedule, checkpoint selection on validation, and clean stops."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch.utils.data import ConcatDataset, DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from derl.data.collate import Collator
from derl.data.console import wrapped
from derl.data.missing import MissingDataset
from derl.evaluate.protocol import average
from derl.evaluate.task import Task
from derl.evaluate.tasks import task_of
from derl.model.masks import nothing_left
from derl.model.sentiment import SentimentModel
from derl.model.training import phase_at
from derl.train.averaging import AveragedAdamW
from derl.train.checkpoint import SafeTrainer
from derl.train.decay import decayed
from derl.train.options import Options
from derl.train.processes import SharedBatches, any_process, use_one_gpu
from derl.train.recipes import LAST, describe_rates
from derl.train.stopping import at_stop, interrupt

AnyTrainer = TypeVar("AnyTrainer", bound="SentimentTrainer")
LOSS_PARTS = ("task_loss", "orthogonality_loss", "reconstruction_loss", "unimodal_loss", "consistency_loss")


class SentimentTrainer(SafeTrainer):
    """A Trainer that logs the parts of the loss, and draws the same batches for any number of processes.

    Args:
        options: options of the run.
        arguments: passed to ``transformers.Trainer``.
    """

    def __init__(self, *, options: Options, **arguments: Any) -> None:
        self.options = options
        super().__init__(**arguments)
        self._batches = SharedBatches(
            len(self.train_dataset),
            options.batch_size,
            options.seed,
            self.train_dataset.epoch,
            self.args.process_index,
            self.args.world_size,
        )
        if self.args.world_size > 1:
            torch.manual_seed(options.seed + self.args.process_index)  # dropout differs between processes

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Split each batch over the processes; accelerate would repeat samples to fill the last batch."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        return DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW with a separate learning rate for the text encoder, and weight decay of weights."""
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.model if model is None else model, self.options)
        return self.optimizer

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        output = model(**inputs)
        if model.training:
            weight = self._batches.weight(self.state.global_step)
            output.loss = output.loss * weight
            parts = {name: output[name] for name in LOSS_PARTS if output.get(name) is not None}
            parts |= {f"{name}_loss": part for name, part in (output.get("losses") or {}).items()}
            self._parts = {name: part.detach() * weight for name, part in parts.items()}
        elif return_outputs:
            output["nothing_left"] = nothing_left(inputs["masks"], inputs.get("keep"))
        return (output.loss, output) if return_outputs else output.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs = logs | {name: self.accelerator.gather(part).mean().item() for name, part in self._parts.items()}
        super().log(logs, *args, **kwargs)


class EpochLine(ProgressCallback):
    """Show a progress bar, and one line per epoch with validation metrics."""

    def __init__(self, rates: Sequence[float], task: Task) -> None:
        super().__init__()
        self.rates, self.task = describe_rates(rates), task

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing; raw logs go to TensorBoard."""

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """Show a bar during validation; the final evaluation has its own."""
        if self.training_bar is not None:
            super().on_prediction_step(*args, **kwargs)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().on_evaluate(args, state, control, **kwargs)
        if self.training_bar is not None and metrics is not None:
            own = {name.removeprefix("eval_"): value for name, value in metrics.items()}
            shown = ", ".join(f"{column.title} {column.cell(own)}" for column in self.task.brief)
            self.training_bar.write(wrapped(f"epoch {state.epoch:.0f}: validation at r = {self.rates}: {shown}"))


class SetEpoch(TrainerCallback):
    """Tell the training data the epoch, which accelerate omits when it resumes within one, and the model its phase."""

    def __init__(self, dataset: MissingDataset, model: SentimentModel) -> None:
        self.dataset, self.model = dataset, model

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epoch = math.floor(state.epoch or 0)
        self.dataset.set_epoch(epoch)
        self.model.phase = phase_at(self.model.phases, epoch)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.model.phase = None


class StopAfterStep(TrainerCallback):
    """On the first Ctrl-C or SIGTERM, finish the step, write a checkpoint and stop; a second one stops immediately."""

    def __init__(self) -> None:
        self.stopped = self._requested = False

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self._requested = True
        at_stop(interrupt)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        at_stop(self._request)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self.stopped = any_process(self._requested)
        if self.stopped:
            control.should_training_stop = True
            control.should_save = not self._epoch_is_whole(state)  # a complete epoch is saved after its evaluation
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self.stopped and not self._epoch_is_whole(state):
            control.should_evaluate = control.should_save = False  # a partial epoch is no candidate for selection
        return control

    @staticmethod
    def _epoch_is_whole(state: TrainerState) -> bool:
        return float(state.epoch or 0).is_integer()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.stopped = self.stopped or any_process(self._requested)  # during the last epoch's evaluation or save
        at_stop(interrupt)


def make_trainer(
    trainer_class: Callable[..., AnyTrainer],
    model: SentimentModel,
    collator: Collator,
    train: MissingDataset,
    valid: Sequence[MissingDataset],
    options: Options,
    folder: Path,
) -> AnyTrainer:
    """Make a silent trainer of ``model``, with checkpoints in ``folder``.

    Args:
        trainer_class: the trainer's class, or a partial of it with more arguments.
        valid: the validation split at each of ``options.select_rates``; their average selects the checkpoint.
    """
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=-(-options.batch_size // PartialState().num_processes),  # --batch_size in total
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        seed=options.seed,
        dataloader_num_workers=options.num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        bf16=options.precision == "bf16" or (options.precision == "auto" and has_bf16_units()),
        use_cpu=not torch.accelerator.is_available(),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=options.select_metric != LAST,
        metric_for_best_model=None if options.select_metric == LAST else options.select_metric,
        greater_is_better=None if options.select_metric == LAST else options.select_metric != "mae",
        logging_strategy="steps",
        logging_steps=5,
        report_to="none",
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=False,
    )
    use_one_gpu(arguments)
    trainer = trainer_class(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=train,
        eval_dataset=ConcatDataset(valid),
        compute_metrics=partial(_metrics, num_parts=len(valid), task=task_of(model.config)),
        options=options,
        callbacks=[SetEpoch(train, model)],
    )
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    return trainer


@contextmanager
def attend(trainer: SentimentTrainer, folder: Path) -> Iterator[StopAfterStep]:
    """Show progress, write TensorBoard logs into ``folder``, and stop cleanly on Ctrl-C or SIGTERM."""
    stop = StopAfterStep()
    trainer.add_callback(stop)
    if not trainer.is_world_process_zero():
        yield stop
        return
    with SummaryWriter(str(folder / "tensorboard")) as writer:  # closed if training fails, too
        trainer.add_callback(TensorBoardCallback(writer))
        trainer.add_callback(EpochLine(trainer.options.select_rates or [], task_of(trainer.model.config)))
        yield stop


def has_bf16_units() -> bool:
    """Return whether this machine has hardware for bf16 matmuls: a recent GPU, or a CPU with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available() or not hasattr(
        torch.cpu, "get_capabilities"
    ):  # older versions of torch lack the latter
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def make_optimizer(model: SentimentModel, options: Options) -> torch.optim.AdamW:
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    decays = decayed(model)
    for name, parameter in model.named_parameters():
        key = ("text_encoder" in name, name in decays)
        groups.setdefault(key, []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": options.text_learning_rate if is_text else options.learning_rate,
            "weight_decay": options.weight_decay if is_decayed else 0.0,
        }
        for (is_text, is_decayed), parameters in groups.items()
    ]
    if options.average_decay:
        return AveragedAdamW(settings, average_decay=options.average_decay, fused=True)
    return torch.optim.AdamW(settings, fused=True)


def _metrics(evaluation: EvalPrediction, num_parts: int, task: Task) -> dict[str, float]:
    predictions = evaluation.predictions[0] if isinstance(evaluation.predictions, tuple) else evaluation.predictions
    parts = zip(
        torch.as_tensor(predictions).float().chunk(num_parts),
        torch.as_tensor(evaluation.label_ids).float().chunk(num_parts),
        strict=True,
    )
    metrics = average([task.measure(answers, labels) for answers, labels in parts])
    return {
        name: value if math.isfinite(value) else 0.0 for name, value in metrics.items()
    }  # Corr of constant scores is NaN
