"""DERL on CMU-MOSI: data, model, protocol and report; importing it makes its models known to the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from derl.baseline import PlainModel
from derl.config import DerlConfig
from derl.model import DerlModel
from derl.predictor import Answer, Predictor
from derl.processor import DerlProcessor

__all__ = ["DerlConfig", "DerlModel", "PlainModel", "DerlProcessor", "Predictor", "Answer"]

AutoConfig.register(DerlConfig.model_type, DerlConfig, exist_ok=True)
AutoModel.register(DerlConfig, (DerlModel, PlainModel), exist_ok=True)  # which of the two, config.architectures says
AutoProcessor.register(DerlConfig, DerlProcessor, exist_ok=True)
