"""From options to data, tokenizer and model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerBase, set_seed

from derl.data.label_counts import describe_label_counts
from derl.data.load import load_data
from derl.data.missing import Collator, MissingDataset
from derl.data.split import Split
from derl.data.synthetic import SyntheticMosi, best_possible, make_synthetic
from derl.evaluate.conditions import Condition
from derl.model.config import DerlConfig
from derl.model.registry import MODELS
from derl.model.sentiment import SentimentModel
from derl.train.options import Options
from derl.train.processes import main_first
from derl.train.run import DATA, RunError, RunFolder

PRESETS = {"mosi": DerlConfig, "mosei": DerlConfig.mosei, "smoke": DerlConfig.smoke}
SMOKE_SIZES = {"train": 48, "valid": 12, "test": 24}
SMOKE_LENGTHS = {"text": 16, "audio": 12, "vision": 12}


@dataclass(frozen=True)
class Setup:
    """What a run works on."""

    options: Options
    splits: dict[str, Split]
    synthetic: SyntheticMosi | None
    data_name: str
    tokenizer: PreTrainedTokenizerBase | None
    model_name: str
    model: SentimentModel

    @classmethod
    def build(cls, options: Options, folder: RunFolder) -> "Setup":
        """Read the data and make the model, or load the run's own where it is only to be evaluated."""
        synthetic = None
        if options.data is None:
            synthetic = (
                make_synthetic(sizes=SMOKE_SIZES, max_lengths=SMOKE_LENGTHS)
                if options.preset == "smoke"
                else make_synthetic()
            )
            splits, tokenizer, data_name = synthetic.splits, synthetic.tokenizer, "synthetic MOSI"
        else:
            splits = main_first(
                partial(load_data, options.data, folder.path / DATA, text_features=options.text_features)
            )
            tokenizer, data_name = None, Path(options.data).name
            if options.resume is None and options.evaluate is None:
                for line in describe_label_counts(splits, options.preset):
                    print(line)
        encoder = options.text_encoder
        if "text" in splits["train"].modalities and encoder is not None:
            tokenizer = load_tokenizer(encoder if options.evaluate is None else str(folder.path / "model"))
        set_seed(options.seed)
        model_class = MODELS[options.model]
        if options.evaluate is not None:
            model = model_class.from_pretrained(folder.path / "model")
        else:
            config = _config(options, splits["train"], tokenizer)
            if "text" in config.modalities and encoder is not None:
                with _explained(encoder):
                    model = model_class.from_text_pretrained(encoder, config)
            else:
                model = model_class(config)
            if options.standardize:
                model.fit_features(splits["train"].features, splits["train"].lengths)
        setup = cls(options, splits, synthetic, data_name, tokenizer, model_class.label, model)
        if options.evaluate is None:
            lengths = setup.dataset("train").lengths()
            model.config.typical_lengths = {name: max(int(part.median()), 1) for name, part in lengths.items()}
        return setup

    @property
    def collator(self) -> Collator:
        """Pads samples to a batch."""
        return Collator(0 if self.tokenizer is None else self.tokenizer.pad_token_id)

    def dataset(self, split: str, condition: Condition | None = None) -> MissingDataset:
        """A split under a condition; without one it is for training, and loses anew every epoch."""
        config, options = self.model.config, self.options
        return MissingDataset(
            self.splits[split],
            self.tokenizer,
            max_lengths=config.max_lengths,
            modalities=config.modalities,
            seed=options.seed,
            rate=None if condition is None else condition.rate,
            available=None if condition is None else condition.available,
            pattern=options.train_pattern if condition is None else condition.pattern,
            corrupted_share=options.corrupted_share,
            corrupt_by=options.corrupt_by,
            train_rate=options.train_rate,
        )

    @property
    def best_possible(self) -> Callable[[MissingDataset], dict[str, float]] | None:
        """Metrics of the best possible predictor on what a test set shows; None where it is not known."""
        if self.synthetic is None or self.options.text_encoder is not None:
            return None
        posterior = self.synthetic.posterior

        def best(dataset: MissingDataset) -> dict[str, float]:
            items = [dataset[index]["keep"] for index in range(len(dataset))]
            keep = {name: [item[name] for item in items] for name in dataset.modalities}
            scores = best_possible(posterior("test", keep), dataset.split.labels)
            return {name: score.item() for name, score in scores.items()}

        return best


def load_tokenizer(encoder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a text encoder: a folder, or a name on the Hub.

    Raises:
        RunError: there is none, or it cannot stand for missing words.
    """
    with _explained(encoder):
        tokenizer = AutoTokenizer.from_pretrained(encoder)
    if tokenizer.unk_token_id is None or tokenizer.pad_token_id is None:
        raise RunError(
            f"--text_encoder {encoder}: expected a tokenizer with an unknown and a padding token, to stand for missing "
            "words and for padding, found one without; choose another encoder."
        )
    return tokenizer


@contextmanager
def _explained(encoder: str) -> Iterator[None]:
    """Turn a failure to load into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise RunError(
            f"--text_encoder {encoder}: expected a folder or a model on the Hugging Face Hub, found none "
            f"({str(error).splitlines()[0]}); name a folder that holds a tokenizer and a model."
        ) from error


def _config(options: Options, train: Split, tokenizer: PreTrainedTokenizerBase | None) -> DerlConfig:
    settings: dict[str, Any] = {
        name: getattr(options, name)
        for name in (
            "disentangler",
            "reconstruction_levels",
            "fusion",
            "task_loss",
            "orthogonality_weight",
            "orthogonality_penalty",
            "reconstruction_weight",
            "detach_target",
            "consistency_weight",
            "complete_weight",
        )
    }
    for name in ("num_private_experts", "num_shared_experts"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    settings["modalities"] = list(train.modalities)
    settings["input_dims"] = {name: frames.shape[2] for name, frames in train.features.items()}
    settings["max_lengths"] = {name: frames.shape[1] for name, frames in train.features.items()} | {"text": 50}
    if tokenizer is not None:
        settings["unk_token_id"] = tokenizer.unk_token_id
        special = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
        settings["special_token_ids"] = [token for token in special if token is not None]
        settings["text_config"] = BertConfig(  # trained from scratch; a pretrained encoder brings its own
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            pad_token_id=tokenizer.pad_token_id,
            max_position_embeddings=64,
        )
    return PRESETS[options.preset](**settings)
