"""DerlModel: the complete DERL model (Li et al.), the library's fusion between a text encoder and a head."""

import torch
from torch import Tensor, nn

from derl.model.ablation import MeanFusion, MlpDisentangler
from derl.model.config import DerlConfig
from derl.model.masks import Features, append_rows
from derl.model.output import DerlOutput
from derl.model.sentiment import SentimentModel
from derl.model.training import Batch
from derl.model.unimodal import UnimodalHeads, average
from modx import MissingModalityFusion


class DerlModel(SentimentModel):
    """Score sentiment from modalities that may be partly or entirely missing.

    Example:
        >>> from transformers import BertConfig
        >>> tiny = BertConfig(
        ...     vocab_size=110, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ... )
        >>> model = DerlModel(DerlConfig(modalities=["text", "audio"], text_config=tiny)).eval()
        >>> inputs = {"text": torch.randint(3, 110, (2, 7)), "audio": torch.randn(2, 20, 5)}
        >>> model(inputs).prediction.shape
        torch.Size([2])
    """

    label = "DERL"
    fuses = True

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        names = config.modalities
        self.fusion = MissingModalityFusion(
            self.input_dims(),
            config.dim,
            num_tokens=config.num_tokens,
            max_lengths={name: config.max_lengths[name] for name in names},
            encoder_depth=config.encoder_depth,
            fusion_depth=config.fusion_depth,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            ffn_dim=config.ffn_dim,
            num_private_experts=config.num_private_experts,
            num_shared_experts=config.num_shared_experts,
            expert_dim=config.expert_dim,
            reconstructor_dim=config.reconstructor_dim,
            router_dim=config.router_dim,
            levels=config.reconstruction_levels,
            orthogonality_penalty=config.orthogonality_penalty,
            detach_target=config.detach_target,
            dropped_modality=config.dropped_modality,
        )
        if config.disentangler == "mlp":
            self.fusion.disentangler = MlpDisentangler(names, config.dim, config.expert_dim)
        if config.fusion == "mean":
            self.fusion.modality_router = MeanFusion()
        self.head = nn.Linear(config.dim, config.num_labels)
        self.unimodal = UnimodalHeads(names, config.dim, config.num_labels) if config.unimodal_weight else None
        self.post_init()

    def forward(
        self,
        inputs: dict[str, Tensor],
        masks: dict[str, Tensor] | None = None,
        keep: dict[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> DerlOutput:
        """Predict from what was kept; training with labels also reconstructs what was dropped.

        Args:
            inputs: modality -> complete input: token ids ``(B, L)`` or features ``(B, L, D_m)``. A modality that is
                None or left out is absent.
            masks: modality -> bool ``(B, L)``, True where real and observed, False on padding. A modality without True
                is absent from the sample. Default: all real.
            keep: modality -> bool ``(B, L)``, True where kept. Default: all kept.
            labels: scores, or numbers of classes, ``(B,)``.
        """
        inputs, masks, keep, seen, shown, rows = self.prepare(inputs, masks, keep, labels)
        if rows is None:
            fused = self.fusion(self.embed(seen, shown), shown)
        else:  # encode the complete input, the target, in the same batch
            batch_size = len(keep[next(iter(keep))])
            states = self.embed(append_rows(seen, inputs, rows), append_rows(shown, masks, rows))
            seen = {name: part[:batch_size] for name, part in states.items()}
            complete = {name: part.index_copy(0, rows, states[name][batch_size:]) for name, part in seen.items()}
            dropped = shown if self.config.dropped_modality == "absent" else None
            fused = self.fusion(seen, masks, dropped, complete=complete)
        own = None if self.unimodal is None else self.unimodal(fused.unimodal)
        prediction = self.answer(self._score(fused.features, own, shown), shown)
        weights = [view[name] for view in fused.router_weights for name in self.config.modalities]
        output = DerlOutput(
            prediction=prediction,
            expert_weights=fused.expert_weights,
            fusion_weights=torch.stack(weights, dim=-1),
        )
        if labels is not None:
            if fused.losses is not None:
                output.orthogonality_loss = fused.losses.orthogonality
                output.reconstruction_loss = fused.losses.reconstruction if self.config.reconstruction_levels else None
            complete = None
            if rows is not None and self.compares_scores:
                means = {name: part[rows] for name, part in fused.complete_unimodal.items()}
                answers = None if self.unimodal is None else self.unimodal(means)
                there = {name: mask[rows] for name, mask in masks.items()}
                complete = self._score(fused.complete_features[rows], answers, there)
            if own is not None and self.training:
                output.unimodal_loss = self._unimodal_loss(own, shown, labels)
            self.add_losses(output, Batch(labels, masks, keep, rows, complete))
        return output

    def _score(self, features: Tensor, own: Features | None, present: Features) -> Tensor:
        """Score fused tokens; where modalities answer by themselves, the mean of their outputs is added."""
        outputs = self.outputs(features.mean(1))
        return self.problem.predict(outputs if own is None else outputs + average(own, present))

    def _unimodal_loss(self, own: Features, present: Features, labels: Tensor) -> Tensor:
        """Return the mean loss of the modalities' own answers, over the samples that have them."""
        errors = {name: self.problem.errors(self.problem.predict(part), labels) for name, part in own.items()}
        there = torch.stack([present[name].any(1) for name in errors])
        return torch.where(there, torch.stack(list(errors.values())), 0).sum() / there.sum().clamp(min=1)

    def drop_training_parts(self) -> None:
        self.fusion.reconstructor = None  # only training reconstructs

    def losses(self, output: DerlOutput, batch: Batch) -> dict[str, Tensor]:
        """Add the losses of eq. 5 and 12 to the task loss (eq. 18)."""
        terms = {"task": self.task_loss(output.prediction, batch.labels)}
        if output.orthogonality_loss is not None:
            terms["orthogonality"] = self.config.orthogonality_weight * output.orthogonality_loss
        if output.reconstruction_loss is not None:
            terms["reconstruction"] = self.config.reconstruction_weight * output.reconstruction_loss
        if output.unimodal_loss is not None:
            terms["unimodal"] = self.config.unimodal_weight * output.unimodal_loss
        return terms | self.comparison(output, batch)
