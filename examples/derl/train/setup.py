"""From options to data, tokenizer and model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, set_seed

from derl.data.absence import is_blank
from derl.data.best_possible import best_possible, label_posterior
from derl.data.collate import Collator
from derl.data.console import say
from derl.data.cuts import describe_cut
from derl.data.label_counts import describe_label_counts
from derl.data.labels import as_classes, check_sentiment
from derl.data.load import load_data
from derl.data.missing import MissingDataset
from derl.data.split import DataError, Split
from derl.data.synthetic import SyntheticMosi, make_synthetic
from derl.data.table import Table
from derl.data.tokens import tokenize
from derl.data.words import word_tokenizer
from derl.evaluate.conditions import Condition
from derl.model.config import MAX_TOKENS, DerlConfig
from derl.model.registry import MODELS
from derl.model.sentiment import SentimentModel
from derl.train.encoder import check_vocabulary, explained, find_encoder, load_tokenizer, small_encoder
from derl.train.options import Options
from derl.train.processes import main_first
from derl.train.recipes import WORDS
from derl.train.run import DATA, RunFolder

PRESETS = {"mosi": DerlConfig, "mosei": DerlConfig.mosei, "own": DerlConfig, "smoke": DerlConfig.smoke}
MOST_TOKENS = 512  # of a text, for the preset own
SMOKE_SIZES = {"train": 48, "valid": 12, "test": 24}
SMOKE_LENGTHS = {"text": 16, "audio": 12, "vision": 12}


@dataclass(frozen=True)
class Setup:
    """Data, tokenizer and model of a run."""

    options: Options
    splits: dict[str, Split]
    synthetic: SyntheticMosi | None
    data_name: str
    tokenizer: PreTrainedTokenizerBase | None
    model_name: str
    model: SentimentModel

    @classmethod
    def build(cls, options: Options, folder: RunFolder) -> "Setup":
        """Load the data and build the model; an evaluation loads the run's model instead."""
        synthetic = None
        if options.data is None:
            synthetic = synthetic_data(options.preset)
            splits, tokenizer, data_name = synthetic.splits, synthetic.tokenizer, "synthetic MOSI"
        else:
            splits = main_first(
                partial(
                    load_data,
                    options.data,
                    folder.path / DATA,
                    text_features=options.text_features,
                    table=Table(classify=options.task == "classify", group=options.group, seed=options.seed),
                    partly_missing=options.partly_missing,
                )
            )
            if options.task == "classify":
                splits = as_classes(splits)
            tokenizer, data_name = None, Path(options.data).name
            if options.sentiment and options.resume is None and options.evaluate is None:
                check_sentiment(splits, options.preset)
                for line in describe_label_counts(splits, options.preset):
                    say(line)
        options = replace(options, dropped_modality=_dropped_modality(options, splits, data_name))
        encoder, texts = options.text_encoder, splits["train"].text
        if texts is None:
            encoder = None
        elif options.evaluate is not None and encoder is not None:
            tokenizer = load_tokenizer(str(folder.path / "model"))
        elif encoder == WORDS:
            tokenizer, encoder = word_tokenizer(text for text in texts if not is_blank(text)), None
        elif encoder is not None:
            encoder = find_encoder(encoder)
            tokenizer = load_tokenizer(encoder)
        set_seed(options.seed)
        model_class = MODELS[options.model]
        if options.evaluate is not None:
            model = model_class.from_pretrained(folder.path / "model")
        else:
            _check_training(splits["train"], tokenizer, options.partly_missing, data_name)
            config = _config(options, splits["train"], tokenizer)
            if encoder is not None:
                with explained(encoder):
                    model = model_class.from_text_pretrained(encoder, config)
                check_vocabulary(encoder, model, tokenizer)
            else:
                model = model_class(config)
            train = splits["train"]
            model.fit_labels(train.labels)
            model.fit_features(train.features, train.lengths, standardize=bool(options.standardize))
        if tokenizer is not None:
            for line in _describe_cut_text(splits, tokenizer, model.config.max_lengths["text"]):
                say(line)
        setup = cls(options, splits, synthetic, data_name, tokenizer, model_class.label, model)
        if options.evaluate is None:
            for name in ("valid", "test"):
                setup._check(name)
            lengths = setup.dataset("train").lengths()
            model.config.typical_lengths = {name: int(part[part > 0].median()) for name, part in lengths.items()}
        return setup

    @property
    def collator(self) -> Collator:
        """Return the collator, which pads samples to a batch."""
        pad_token_id = 0 if self.tokenizer is None else self.tokenizer.pad_token_id
        return Collator(pad_token_id, with_index=self.model.remembers)

    def dataset(self, split: str, condition: Condition | None = None) -> MissingDataset:
        """Return a split under a condition. Without one it is for training, and every epoch redraws what it drops."""
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
            partly_missing=config.partly_missing,
        )

    def _check(self, split: str) -> None:
        """Refuse a split that the model cannot read, before it is trained.

        Raises:
            DataError: A sample has more frames than every training array; the message says which.
        """
        for modality, limit in self.model.config.max_lengths.items():
            lengths = self.splits[split].lengths.get(modality)
            if lengths is not None and lengths.max() > limit:
                raise DataError(
                    f"{self.data_name}: expected at most {limit} frames of {modality} in {split}, as the training "
                    f"arrays have, found {int(lengths.max())} in row {int(lengths.argmax())}; cut them, or pad the "
                    "training arrays with zeros to that length."
                )
        self.dataset(split)

    @property
    def best_possible(self) -> Callable[[MissingDataset], dict[str, float]] | None:
        """Return metrics of the best possible predictor on a test set; None if it is unknown."""
        if self.synthetic is None or self.options.text_encoder is not None:
            return None
        synthetic = self.synthetic

        def best(dataset: MissingDataset) -> dict[str, float]:
            items = [dataset[index]["keep"] for index in range(len(dataset))]
            keep = {name: [item[name] for item in items] for name in dataset.modalities}
            scores = best_possible(label_posterior(synthetic, "test", keep), dataset.split.labels)
            return {name: score.item() for name, score in scores.items()}

        return best


def synthetic_data(preset: str) -> SyntheticMosi:
    """Make the synthetic data of a preset: little of it for a smoke test."""
    return make_synthetic(sizes=SMOKE_SIZES, max_lengths=SMOKE_LENGTHS) if preset == "smoke" else make_synthetic()


def _dropped_modality(options: Options, splits: Mapping[str, Any], data_name: str) -> str:
    """Return the run's setting; say so if holes in the data, which have nothing to erase, decide it.

    Raises:
        DataError: The data has holes, and "erased" was asked for.
    """
    holes = {
        modality: f"{modality} is missing from {count} samples of {name}"
        for name, split in reversed(splits.items())
        for modality, missing in split.missing().items()
        if (count := missing.samples + (missing.partly if options.partly_missing == "mask" else 0))
    }
    if not holes:
        return options.dropped_modality or ("absent" if options.unimodal_weight else "erased")  # nothing has no answer
    lacking = ", ".join(holes.values())
    if options.dropped_modality == "erased":
        raise DataError(
            f"{data_name}: expected every modality in every sample for --dropped_modality erased, found that "
            f"{lacking}; leave the option out, or give absent."
        )
    if options.evaluate is None:
        say(f"dropped_modality is absent, not erased as in the paper, because {lacking}")
    return "absent"


def _check_training(train: Split, tokenizer: Any, partly_missing: str, data_name: str) -> None:
    """Refuse a modality of which no training sample shows anything, before a model is made for it.

    Raises:
        DataError: There is one; the message names it.
    """
    absent = [name for name, missing in train.missing().items() if missing.is_all(partly_missing)]
    if tokenizer is not None and not any(tokenize([text], tokenizer)[0] for text in train.text):
        absent.insert(0, "text")  # perhaps texts of special tokens alone, which are not blank
    if absent:
        raise DataError(
            f"{data_name}: expected {absent[0]} in at least one training sample, found it in none; leave its column, "
            "or key, out of the data."
        )


def _describe_cut_text(splits: Mapping[str, Any], tokenizer: Any, limit: int) -> list[str]:
    """Say, per split, how many texts are longer than the model reads."""
    lines = {
        name: describe_cut("text", "tokens", [len(row) for row in tokenize(split.text, tokenizer)], limit)
        for name, split in splits.items()
    }
    return [f"{name}: {line}" for name, line in lines.items() if line]


def _config(options: Options, train: Split, tokenizer: PreTrainedTokenizerBase | None) -> DerlConfig:
    own = {field.name for field in fields(DerlConfig)} & {field.name for field in fields(Options)}
    settings = {
        name: value for name in sorted(own) if (value := getattr(options, name)) is not None
    }  # None means the preset's value
    settings["modalities"] = list(train.modalities)
    settings["input_dims"] = {name: frames.shape[2] for name, frames in train.features.items()}
    lengths = {name: frames.shape[1] for name, frames in train.features.items()}
    settings["sentiment"] = options.sentiment
    if options.task == "classify":
        settings |= {"problem_type": "single_label_classification", "id2label": dict(enumerate(train.classes))}
        settings["label2id"] = {name: number for number, name in enumerate(train.classes)}
    longest = MAX_TOKENS
    if options.preset == "own" and train.text is not None and tokenizer is not None:
        longest = min(MOST_TOKENS, tokenizer.model_max_length, max(map(len, tokenize(train.text, tokenizer))))
    settings["max_lengths"] = {"text": longest} | lengths
    if tokenizer is not None:
        settings["unk_token_id"] = tokenizer.unk_token_id
        special = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
        settings["special_token_ids"] = [token for token in special if token is not None]
        settings["text_config"] = small_encoder(tokenizer, longest)  # a pretrained encoder has its own
    if options.preset == "smoke":
        settings["core"] = MODELS[options.model].smoke or None
    return PRESETS[options.preset](**settings)
