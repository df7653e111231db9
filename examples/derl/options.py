"""What the command can be told."""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from derl.training import Schedule


@dataclass
class Options(Schedule):
    """Every option of ``examples/derl_mosi.py``; those of :class:`derl.training.Schedule` come first.

    Attributes:
        as described in each field's help.
    """

    data: str | None = field(
        default=None, metadata={"help": "MMSA-layout pickle, such as unaligned_50.pkl; left out: synthetic data"}
    )
    text_encoder: str | None = field(
        default=None,
        metadata={"help": "Hugging Face text encoder, a folder or a name; bert-base-uncased where --data is given"},
    )
    preset: str = field(default="mosi", metadata={"help": "sizes of the paper's model", "choices": ["mosi", "mosei"]})
    model: str = field(
        default="derl",
        metadata={"help": "derl, or its plain baseline: a linear layer on means", "choices": ["derl", "plain"]},
    )
    task_loss: str = field(
        default="mse", metadata={"help": "error of the score to minimise", "choices": ["mse", "mae"]}
    )
    orthogonality_weight: float = field(default=0.1, metadata={"help": "weight of eq. 5 in the loss"})
    orthogonality_penalty: str = field(
        default="cosine",
        metadata={
            "help": "eq. 5: the cosine as printed, or a function of it",
            "choices": ["cosine", "relu", "abs", "square"],
        },
    )
    reconstruction_weight: float = field(default=0.1, metadata={"help": "weight of eq. 12 in the loss"})
    detach_target: bool = field(
        default=False,
        metadata={"help": "stop the gradient into the complete views (eq. 7, 9, 11); printed: let it flow"},
    )
    output_dir: str | None = field(default=None, metadata={"help": "a new folder; left out: runs/DATE-TIME"})
    resume: str | None = field(
        default=None, metadata={"help": "go on with the run in this folder, by the options it was started with"}
    )
    evaluate: str | None = field(default=None, metadata={"help": "judge the model of the run in this folder again"})


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = HfArgumentParser(Options, description="Train DERL on sentiment, judge it under missing input, and report.")
    (options,) = parser.parse_args_into_dataclasses(arguments)
    if options.resume is not None and options.evaluate is not None:
        parser.error("--resume and --evaluate both name a run; give one")
    return options
