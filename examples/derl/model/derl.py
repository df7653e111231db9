"""DerlModel: the whole of DERL (Li et al.), composed from modx's blocks."""

import torch
from torch import Tensor, nn

from derl.model.ablation import MeanFusion, MlpDisentangler
from derl.model.config import DerlConfig
from derl.model.sentiment import DerlOutput, Features, SentimentModel, all_real, append_rows, lost_rows
from modx import (
    BottleneckEncoder,
    Disentangled,
    HybridExpertDisentangler,
    ModalityRouter,
    MultiLevelReconstructor,
    TransformerEncoder,
)
from modx.losses import orthogonality_loss, reconstruction_loss


class DerlModel(SentimentModel):
    """Score sentiment from modalities that may be missing, in part or whole.

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
        block = {"num_heads": config.num_heads, "head_dim": config.head_dim, "ffn_dim": config.ffn_dim}
        self.encoder = BottleneckEncoder(
            self.input_dims(),
            config.dim,
            num_tokens=config.num_tokens,
            depth=config.encoder_depth,
            max_lengths={name: config.max_lengths[name] for name in names},
            **block,
        )
        if config.disentangler == "experts":
            self.disentangler = HybridExpertDisentangler(
                names,
                config.dim,
                config.expert_dim,
                num_private_experts=config.num_private_experts,
                num_shared_experts=config.num_shared_experts,
            )
        else:
            self.disentangler = MlpDisentangler(names, config.dim, config.expert_dim)
        self.reconstructor = None
        if config.reconstruction_levels:
            self.reconstructor = MultiLevelReconstructor(
                names, config.dim, config.reconstructor_dim, levels=config.reconstruction_levels
            )
        if config.fusion == "router":
            self.modality_router = ModalityRouter(names, config.dim, config.router_dim)
        else:
            self.modality_router = MeanFusion()
        self.fusion_positions = nn.Parameter(torch.empty(config.num_tokens, config.dim))
        nn.init.normal_(self.fusion_positions, std=0.02)
        self.fusion = TransformerEncoder(config.dim, config.fusion_depth, **block)
        self.head = nn.Linear(config.dim, 1)
        self.post_init()

    def forward(
        self,
        inputs: dict[str, Tensor],
        masks: dict[str, Tensor] | None = None,
        keep: dict[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> DerlOutput:
        """Predict from what was kept; in training, with labels, also learn to rebuild what was not.

        Args:
            inputs: for every modality the complete input: token ids ``(B, L)`` or features ``(B, L, D_m)``.
            masks: bool ``(B, L)``, True where an element is real, False on padding; None: all are.
            keep: bool ``(B, L)``, True where an element survived; None: all did.
            labels: ``(B,)``, the sentiment score.
        """
        self.check(inputs, masks, keep, labels)
        masks = all_real(inputs) if masks is None else masks
        inputs = self.standardize(inputs)
        batch_size = next(iter(inputs.values())).shape[0]
        seen = inputs if keep is None else self.corrupt(inputs, keep)
        learn = self.training and labels is not None
        rows = lost_rows(masks, keep) if learn and keep is not None else None
        if rows is not None:  # the complete views are the targets: encode them in the same batch
            complete = torch.arange(batch_size, device=rows.device)
            complete[rows] = torch.arange(batch_size, batch_size + len(rows), device=rows.device)
            seen, masks = append_rows(seen, inputs, rows), append_rows(masks, masks, rows)
        features = self.encoder(self.embed(seen, masks), masks)
        views = self.disentangler(features)
        incomplete_features, incomplete_views = _take(features, views, slice(batch_size))
        prediction, fusion_weights = self._predict(incomplete_views)
        output = DerlOutput(
            prediction=prediction, expert_weights=incomplete_views.router_weights, fusion_weights=fusion_weights
        )
        if labels is not None:
            output.task_loss = output.loss = self.task_loss(prediction, labels)
        if learn:
            targets = _take(features, views, slice(None) if rows is None else complete)
            self._supervise(output, incomplete_features, incomplete_views, *targets)
            if rows is not None and self.compares_scores:
                _, complete_views = _take(features, views, slice(batch_size, None))
                self.compare(output, self._predict(complete_views)[0], rows, labels)
        return output

    def drop_training_parts(self) -> None:
        self.reconstructor = None  # only training rebuilds what is missing

    def _predict(self, views: Disentangled) -> tuple[Tensor, Tensor]:
        """Fuse the six views and score them (eq. 13-16)."""
        fused, weights = self.modality_router(views.private, views.shared)
        columns = torch.stack([view[name] for view in weights for name in self.config.modalities], dim=-1)
        return self.score(self.fusion(fused + self.fusion_positions).mean(1)), columns

    def _supervise(
        self,
        output: DerlOutput,
        features: Features,
        views: Disentangled,
        target_features: Features,
        target_views: Disentangled,
    ) -> None:
        """Add the losses of eq. 5 and 12 to the task's (eq. 18)."""
        config = self.config
        output.orthogonality_loss = orthogonality_loss(views, penalty=config.orthogonality_penalty)
        output.loss = output.task_loss + config.orthogonality_weight * output.orthogonality_loss
        if self.reconstructor is not None:
            output.reconstruction_loss = reconstruction_loss(
                self.reconstructor(features, views), target_features, target_views, detach_target=config.detach_target
            ).total
            output.loss = output.loss + config.reconstruction_weight * output.reconstruction_loss


def _take(features: Features, views: Disentangled, rows: slice | Tensor) -> tuple[Features, Disentangled]:
    def take(parts: Features) -> Features:
        return {name: part[rows] for name, part in parts.items()}

    return take(features), Disentangled(*(take(view) for view in views))
