"""ComparedModel: base class of the systems that DERL is compared with, around a core of ``examples/baselines``."""

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from derl.model.config import DerlConfig
from derl.model.masks import Features, append_rows
from derl.model.output import DerlOutput
from derl.model.sentiment import SentimentModel
from derl.model.training import Batch


class CoreParts(NamedTuple):
    """What a core made of a training batch, for :meth:`ComparedModel.core_losses`.

    Attributes:
        output: of the incomplete input.
        complete_output: of the complete input; equal to ``output`` where nothing was dropped. None if the model's
            ``needs`` is not "output".
        complete: modality -> the complete input, text as states; None if ``needs`` is None.
    """

    output: Any
    complete_output: Any
    complete: Features | None


class ComparedModel(SentimentModel):
    """Wrap a core: the text encoder, the corruption of input, and the protocol are those of DERL.

    A subclass sets ``core_class``, and adds :meth:`core_losses` if the core has any. The loss of the score is the
    task's, as for DERL.

    Attributes:
        core_class: called with widths, longest lengths and the number of outputs; ``config.core`` has other arguments.
        needs: what :meth:`core_losses` reads of the complete input: "output" of the core, its "input", or None.
    """

    core_class: ClassVar[type[nn.Module]]
    needs: ClassVar[str | None] = None

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        lengths = {name: config.max_lengths[name] for name in config.modalities}
        settings = self.core_settings() | (config.core or {})
        self.core = self.core_class(self.input_dims(), lengths, config.num_labels, **settings)
        self.post_init()

    def core_settings(self) -> dict[str, Any]:
        """Return arguments of the core that depend on the data."""
        return {}

    def dominant(self) -> str:
        """Return the modality that guides, in a core that has one: text, or else the first by name."""
        names = sorted(self.config.modalities)
        return "text" if "text" in names else names[0]

    @property
    def head(self) -> nn.Module:
        """The core's last layer."""
        head: nn.Module = self.core.head
        return head

    def forward(
        self,
        inputs: Features,
        masks: Features | None = None,
        keep: Features | None = None,
        labels: Tensor | None = None,
        index: Tensor | None = None,
    ) -> DerlOutput:
        """Predict from what was kept; for arguments see :meth:`derl.model.derl.DerlModel.forward`.

        Args:
            index: the samples' places in the training split, ``(B,)``, for a model that remembers samples.
        """
        inputs, masks, keep, seen, shown, rows = self.prepare(inputs, masks, keep, labels)
        if rows is not None and (self.needs or self.compares_scores):
            features = self.embed(append_rows(seen, inputs, rows), append_rows(shown, masks, rows))
            parts, complete = self._run_both(features, append_rows(shown, masks, rows), rows)
        else:
            features, complete = self.embed(seen, shown), None
            found = self.run_core(features, shown)
            parts = CoreParts(found, found, features)
        output = DerlOutput(prediction=self.answer(self.problem.predict(parts.output.prediction), shown))
        if labels is not None:
            parts = parts if self.training else None
            self.add_losses(output, Batch(labels, masks, keep, rows, complete, parts, index))
        return output

    def _run_both(self, features: Features, masks: Features, rows: Tensor) -> tuple[CoreParts, Tensor | None]:
        """Run the core on a batch with the complete input of ``rows`` after it, or without where nothing needs it."""
        size = len(next(iter(features.values()))) - len(rows)

        def first(part: Tensor) -> Tensor:
            return part[:size]

        def complete(part: Tensor) -> Tensor:
            return part[:size].index_copy(0, rows, part[size:])

        if self.needs != "output" and not self.compares_scores:
            found = self.run_core(tree_map(first, features), tree_map(first, masks))
            return CoreParts(found, None, tree_map(complete, features)), None
        found = self.run_core(features, masks)
        scores = self.problem.predict(found.prediction)[size:] if self.compares_scores else None
        return CoreParts(tree_map(first, found), tree_map(complete, found), tree_map(complete, features)), scores

    def run_core(self, features: Features, masks: Features) -> Any:
        """Call the core; a subclass whose core takes part in the encoding of text overrides it, and :meth:`embed`."""
        return self.core(features, masks)

    def losses(self, output: DerlOutput, batch: Batch) -> dict[str, Tensor]:
        """Add the core's losses, in training, to those of every model."""
        terms = super().losses(output, batch)
        if batch.parts is None:
            return terms
        output.losses = self.core_losses(batch.parts, batch)
        return terms | output.losses

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        """Return the core's own losses by name, each times its weight. Default: none."""
        return {}

    def drop_training_parts(self) -> None:
        for name in self.core.training_parts:
            delattr(self.core, name)
