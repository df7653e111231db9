"""Find and load a saved model; a failure is explained in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel

from derl.data.split import DataError
from derl.model.config import DerlConfig
from derl.model.registry import MODELS
from derl.model.sentiment import SentimentModel


def model_folder(path: str | Path) -> Path:
    """Return the folder of a model, given that folder or its run's.

    Raises:
        DataError: There is no model.
    """
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise DataError(
        f"{path}: expected the folder of a run or of its model, found no config.json; train one with derl_mosi.py, or "
        "check the path."
    )


def read_model(folder: str | Path, **kwargs: Any) -> SentimentModel:
    """Load a model of any registered class.

    Args:
        folder: folder written by a run or by ``save_pretrained``, or a model's name on the Hub.
        kwargs: passed to ``AutoModel.from_pretrained``.

    Raises:
        DataError: The folder holds another kind of model, or weights that are incomplete or not in safetensors.
        OSError: The folder cannot be read.
    """
    config, _ = AutoConfig.from_pretrained(folder, return_unused_kwargs=True, **kwargs)
    if not isinstance(config, DerlConfig):
        raise DataError(
            f"{folder}: expected a model of type {DerlConfig.model_type!r}, found {config.model_type!r}; "
            "name a folder that derl_mosi.py wrote."
        )
    known = [model_class.__name__ for model_class in MODELS.values()]
    if config.architectures[0] not in known:
        raise DataError(
            f"{folder}: expected a model of one of the classes {', '.join(known)}, found {config.architectures[0]}; "
            "register it with register_model first."
        )
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True, **kwargs)
    if info["missing_keys"]:
        raise DataError(
            f"{folder}: expected weights of the whole model, found none of {sorted(info['missing_keys'])[0]}; save "
            "it again with save_pretrained."
        )
    loaded: SentimentModel = model
    return loaded


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn any failure to read ``folder`` into a one-line DataError."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, LookupError, SafetensorError) as error:
        raise DataError(
            f"{folder}: expected a model that derl_mosi.py saved, found {type(error).__name__}: "
            f"{str(error).splitlines()[0]}; copy the folder again, or train a new one."
        ) from error
