"""Registry of the models that ``--model`` accepts. A new model takes one file, and one line here."""

from transformers import AutoConfig, AutoModel

from derl.model.almt import AlmtModel
from derl.model.baseline import PlainModel
from derl.model.cenet import CenetModel
from derl.model.config import DerlConfig
from derl.model.corrkd import CorrKdModel
from derl.model.cube_mlp import CubeMlpModel
from derl.model.derl import DerlModel
from derl.model.dmd import DmdModel
from derl.model.emoe import EmoeModel
from derl.model.lnln import LnlnModel
from derl.model.mctn import MctnModel
from derl.model.misa import MisaModel
from derl.model.mmim import MmimModel
from derl.model.self_mm import SelfMmModel
from derl.model.sentiment import SentimentModel
from derl.model.tfr_net import TfrNetModel
from derl.model.transm import TransMModel

MODELS: dict[str, type[SentimentModel]] = {}


def register_model(name: str, model_class: type[SentimentModel]) -> None:
    """Register a model with every command, the study and ``AutoModel``.

    Args:
        name: value of ``--model``.
        model_class: a subclass of :class:`SentimentModel`. Its ``label`` names it in tables. Its class name, saved in
            ``config.architectures``, selects the class when a model is loaded.

    Raises:
        TypeError: The class is not a ``SentimentModel``.
        ValueError: Another model has the same name, label or class name.
    """
    if not (isinstance(model_class, type) and issubclass(model_class, SentimentModel)):
        raise TypeError(
            f"register_model expected a subclass of SentimentModel, got {model_class!r}; make it a subclass."
        )
    for other, known in MODELS.items():
        if name == other or model_class.label == known.label or model_class.__name__ == known.__name__:
            raise ValueError(
                f"register_model expected a name, a label and a class name of its own, got those of {other!r}: "
                f"{name!r}, {model_class.label!r}, {model_class.__name__}; rename it."
            )
    MODELS[name] = model_class
    AutoModel.register(DerlConfig, tuple(MODELS.values()), exist_ok=True)  # config.architectures selects the class


AutoConfig.register(DerlConfig.model_type, DerlConfig, exist_ok=True)
register_model("derl", DerlModel)
register_model("plain", PlainModel)
register_model("lnln", LnlnModel)
register_model("dmd", DmdModel)
register_model("tfr_net", TfrNetModel)
register_model("misa", MisaModel)
register_model("emoe", EmoeModel)
register_model("almt", AlmtModel)
register_model("cube_mlp", CubeMlpModel)
register_model("transm", TransMModel)
register_model("self_mm", SelfMmModel)
register_model("corrkd", CorrKdModel)
register_model("mmim", MmimModel)
register_model("cenet", CenetModel)
register_model("mctn", MctnModel)
