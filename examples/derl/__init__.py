"""DERL on CMU-MOSI: data, model, evaluation and report. Importing it registers its models with the Auto classes."""

from transformers import AutoProcessor

from derl.evaluate.answer import Answer
from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.model.registry import MODELS, register_model
from derl.predict.predictor import Predictor
from derl.predict.processor import DerlProcessor

__all__ = [
    "DerlConfig",
    "DerlModel",
    "PlainModel",
    "MODELS",
    "register_model",
    "DerlProcessor",
    "Predictor",
    "Answer",
]

AutoProcessor.register(DerlConfig, DerlProcessor, exist_ok=True)
