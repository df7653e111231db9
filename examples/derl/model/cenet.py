"""CenetModel: CENET (Wang et al.) inside the text encoder of the run."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from baselines.cenet import CENET, Enhance
from baselines.masked import first_at_least
from derl.model.compared import ComparedModel
from derl.model.config import DerlConfig
from derl.model.masks import Features

LAYER = 1  # whose input is enhanced: the second; of an encoder with one layer, the first
ENHANCE: ContextVar[Enhance | None] = ContextVar("ENHANCE", default=None)  # of the call in progress, in this thread


class CenetModel(ComparedModel):
    """Score sentiment by :class:`baselines.cenet.CENET` inside the text encoder.

    Without text, the first modality by name is enhanced, and no encoder follows.

    Raises:
        ValueError: The text encoder has no list of layers.
    """

    label = "CENET"
    core_class = CENET
    recipe: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 6e-5,
        "text_learning_rate": 6e-5,
        "weight_decay": 0.0,
        "max_grad_norm": 2.0,
    }

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        self._let_enhance()

    @classmethod
    def from_text_pretrained(cls, text_encoder: str, config: DerlConfig) -> "CenetModel":
        model: Any = super().from_text_pretrained(text_encoder, config)
        model._let_enhance()  # this text encoder is not the constructor's
        return model

    def core_settings(self) -> dict[str, Any]:
        return {"dominant": self.dominant()}

    def embed(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Features:
        """Leave ids as they are: :meth:`run_core` encodes the text, together with what enhances it."""
        return {name: inputs[name] for name in self.config.modalities}

    def run_core(self, features: Features, masks: Features) -> Any:
        return self.core(features, masks, self._encoder(features, masks) if "text" in features else None)

    def _encoder(self, features: Features, masks: Features) -> Callable[[Enhance], Tensor]:
        mask = masks["text"]
        ids = features["text"].masked_fill(~mask, self.config.text_config.pad_token_id or 0)  # one may stand in

        def encode(enhance: Enhance) -> Tensor:
            token = ENHANCE.set(enhance)
            try:
                found = self.text_encoder(input_ids=ids, attention_mask=first_at_least(mask).long())
            finally:
                ENHANCE.reset(token)
            states: Tensor = found.last_hidden_state
            return states

        return encode

    def _let_enhance(self) -> None:
        if "text" in self.config.modalities:
            layers = layers_of(self.text_encoder)
            layers[min(LAYER, len(layers) - 1)].register_forward_pre_hook(enhanced)


def layers_of(encoder: PreTrainedModel) -> nn.ModuleList:
    """Return the layers of a text encoder, in their order.

    Raises:
        ValueError: It has no list of as many modules as its configuration says that it has layers.
    """
    count = encoder.config.num_hidden_layers
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(
        f"CenetModel expected a text encoder with a list of its {count} layers, as BERT has, got "
        f"{type(encoder).__name__}; name another encoder, such as bert-base-uncased."
    )


def enhanced(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Enhance the states that a layer is called with, in a call of :class:`CenetModel`."""
    enhance = ENHANCE.get()
    return args if enhance is None else (enhance(args[0]), *args[1:])
