"""DERL on CMU-MOSI: data, model, protocol and report; importing it makes its models known to the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.predict.predictor import Answer, Predictor
from derl.predict.processor import DerlProcessor

__all__ = ["DerlConfig", "DerlModel", "PlainModel", "DerlProcessor", "Predictor", "Answer"]

AutoConfig.register(DerlConfig.model_type, DerlConfig, exist_ok=True)
AutoModel.register(DerlConfig, (DerlModel, PlainModel), exist_ok=True)  # which of the two, config.architectures says
AutoProcessor.register(DerlConfig, DerlProcessor, exist_ok=True)
