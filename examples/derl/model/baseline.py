"""PlainModel: the baseline for DERL, a linear layer on mean features."""

import torch
from torch import Tensor, nn

from derl.model.config import DerlConfig
from derl.model.masks import append_rows
from derl.model.output import DerlOutput
from derl.model.sentiment import SentimentModel
from derl.model.training import Batch


class PlainModel(SentimentModel):
    """Average each modality over its real frames, concatenate the means, and apply one linear layer.

    The fine-tuned text encoder and the corruption of input are the same as for DERL.
    """

    label = "plain"

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(sum(self.input_dims().values()), config.num_labels)
        self.post_init()

    def forward(
        self,
        inputs: dict[str, Tensor],
        masks: dict[str, Tensor] | None = None,
        keep: dict[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> DerlOutput:
        """Predict from what was kept; for arguments see :meth:`derl.model.derl.DerlModel.forward`."""
        inputs, masks, keep, seen, shown, rows = self.prepare(inputs, masks, keep, labels)
        compare = rows is not None and self.compares_scores
        if compare:
            seen, shown = append_rows(seen, inputs, rows), append_rows(shown, masks, rows)
        embedded = self.embed(seen, shown)
        means = [
            torch.where(shown[name][..., None], part, 0).sum(1) / shown[name].sum(1, keepdim=True).clamp(min=1)
            for name, part in sorted(embedded.items())
        ]
        scores = self.answer(self.score(torch.cat(means, dim=1)), shown)
        prediction = scores[: next(iter(inputs.values())).shape[0]]
        output = DerlOutput(prediction=prediction)
        if labels is not None:
            complete = scores[len(prediction) :] if compare else None
            self.add_losses(output, Batch(labels, masks, keep, rows, complete))
        return output
