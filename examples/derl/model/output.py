"""DerlOutput: what a model returns."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput

from derl.model.masks import Features


@dataclass
class DerlOutput(ModelOutput):
    """Output of DERL; with labels, also the losses and their weighted sum (eq. 18).

    Attributes:
        loss: scalar; in evaluation, the task loss only.
        task_loss: scalar.
        orthogonality_loss, reconstruction_loss: scalars, only in training (eq. 5, 12).
        unimodal_loss: scalar, only in training and if modalities answer by themselves.
        consistency_loss: scalar, only in training and if the complete input is scored too.
        losses: name -> scalar, other losses of training, each times its weight.
        prediction: scores ``(B,)``, or logits of classes ``(B, num_labels)``.
        expert_weights: modality -> ``(B, N, P + S)``, weights of HED's router (eq. 3).
        fusion_weights: ``(B, N, 2 M)``, weights of all private views, then of all shared views (eq. 14).
        nothing_left: ``(B,)`` bool, True where nothing was kept of any modality; set by the trainer in evaluation.
    """

    loss: Tensor | None = None
    task_loss: Tensor | None = None
    orthogonality_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    unimodal_loss: Tensor | None = None
    consistency_loss: Tensor | None = None
    losses: Features | None = None
    prediction: Tensor | None = None
    expert_weights: Features | None = None
    fusion_weights: Tensor | None = None
    nothing_left: Tensor | None = None
