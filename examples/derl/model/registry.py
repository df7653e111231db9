"""The models that every command knows, by the name that ``--model`` takes: a new one is a file, and a line here."""

from transformers import AutoConfig, AutoModel

from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.model.sentiment import SentimentModel

MODELS: dict[str, type[SentimentModel]] = {}


def register_model(name: str, model_class: type[SentimentModel]) -> None:
    """Make a model known to every command, to the study and to ``AutoModel``.

    Args:
        name: what ``--model`` takes.
        model_class: a subclass of :class:`SentimentModel`. Its ``label`` names it in tables, and its class name, saved
            in ``config.architectures``, finds it again.

    Raises:
        TypeError: the class is no ``SentimentModel``.
        ValueError: another model has the name, the label or the class name.
    """
    if not (isinstance(model_class, type) and issubclass(model_class, SentimentModel)):
        raise TypeError(
            f"register_model expected a subclass of SentimentModel, got {model_class!r}; derive it from one."
        )
    for other, known in MODELS.items():
        if name == other or model_class.label == known.label or model_class.__name__ == known.__name__:
            raise ValueError(
                f"register_model expected a name, a label and a class name of its own, got those of {other!r}: "
                f"{name!r}, {model_class.label!r}, {model_class.__name__}; rename it."
            )
    MODELS[name] = model_class
    AutoModel.register(DerlConfig, tuple(MODELS.values()), exist_ok=True)  # config.architectures says which it is


AutoConfig.register(DerlConfig.model_type, DerlConfig, exist_ok=True)
register_model("derl", DerlModel)
register_model("plain", PlainModel)
