"""DerlConfig: sizes and losses, with the paper's values as defaults."""

from typing import Any, ClassVar

import numpy as np
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from derl.model.config_rules import RULES, check
from derl.model.problem import PROBLEMS
from modx.reconstruct import LEVELS

MAX_TOKENS = 50  # of a text


class DerlConfig(PreTrainedConfig):
    """Configure :class:`derl.model.derl.DerlModel`; the defaults are DERL's on CMU-MOSI (Li et al.).

    Sizes, tokens, experts and losses are the paper's (section 4.2, eq. 18). docs/paper.md lists what it leaves open.

    Attributes:
        modalities: names of the modalities. "text" goes through a Hugging Face encoder; the others are features.
        input_dims: modality -> width of a frame, for every modality except text.
        max_lengths: modality -> maximum number of frames (tokens for text).
        typical_lengths: modality -> median length of training samples, which is the length of the stand-in for a
            missing modality. Default: ``max_lengths``.
        text_config: configuration of the text encoder.
        unk_token_id: the token that replaces a missing word.
        special_token_ids: tokens that are never replaced: [PAD], [CLS], [SEP].
        dim: D, width of a token.
        num_tokens: N, bottleneck tokens per modality.
        encoder_depth: transformer blocks per encoder.
        fusion_depth: transformer blocks after fusion.
        num_heads, head_dim, ffn_dim: sizes of every transformer block.
        num_private_experts, num_shared_experts, expert_dim: P, S and the experts' hidden width in HED.
        disentangler: "experts" (HED), or "mlp": one private MLP per modality, one shared MLP, and no router.
        reconstruction_levels: levels of MLCR out of "input", "disentangled", "joint"; an empty list disables MLCR.
        reconstructor_dim: hidden width of R1 and R2; R3 has twice as many.
        fusion: "router" (MRF), or "mean" for equal weights.
        router_dim: hidden width of the modality router.
        sentiment: whether labels are sentiment in [-3, 3], as in CMU-MOSI and CMU-MOSEI; else numbers on any scale.
        problem_type: "regression", or "single_label_classification" of the ``num_labels`` classes in ``id2label``.
        task_loss: "mse" or "mae", for regression; classes have the cross-entropy.
        orthogonality_weight, reconstruction_weight: weights of eq. 5 and eq. 12 in the loss. Both are 1 in eq. 18.
        orthogonality_penalty: "cosine" (as printed), "relu", "abs" or "square".
        detach_target: whether the reconstruction loss treats the complete views as constants. As printed, it does not.
        consistency_weight: weight of the squared distance to the complete input's (detached) score, or probabilities of
            classes; not in the paper.
        complete_weight: weight of the task loss of the complete input's score; not in the paper.
        unimodal_weight: weight of the loss of each modality's own answer. Their mean over what is present is added to
            the score. 0: modalities do not answer by themselves, as in the paper.
        dropped_modality: how to treat a modality that is dropped whole, and one that a sample lacks in
            :class:`derl.predict.predictor.Predictor`. "erased": as zeros or [UNK] that are still attended to, as in the
            paper. "absent": as if it had been left out.
        partly_missing: "impute" replaces missing (NaN) values in a frame by the training mean; "mask" masks the frame.
        mean_label: mean of the training labels, the answer to a sample of which nothing is present.
        core: arguments of a compared system's core, by name, that differ from its paper's sizes.
        class_shares: share of each class among the training labels, that answer for classes. Default: equal shares.

    Raises:
        ValueError: A value is not allowed for its field, or a modality lacks a width or a length.
    """

    model_type = "derl"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["task_loss", "orthogonality_loss", "reconstruction_loss"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")
    }

    modalities: list[str] | tuple[str, ...] = ("text", "audio", "vision")
    input_dims: dict[str, int] | None = None
    max_lengths: dict[str, int] | None = None
    typical_lengths: dict[str, int] | None = None
    text_config: PreTrainedConfig | dict[str, Any] | None = None
    unk_token_id: int = 100
    special_token_ids: list[int] | tuple[int, ...] = (0, 101, 102)
    dim: int = 128
    num_tokens: int = 4
    encoder_depth: int = 1
    fusion_depth: int = 2
    num_heads: int = 8
    head_dim: int = 64
    ffn_dim: int = 128
    num_private_experts: int = 1
    num_shared_experts: int = 3
    expert_dim: int = 256
    disentangler: str = "experts"
    reconstruction_levels: list[str] | tuple[str, ...] = LEVELS
    reconstructor_dim: int = 128
    fusion: str = "router"
    router_dim: int = 256
    sentiment: bool = True
    problem_type: str = "regression"
    task_loss: str = "mse"
    orthogonality_weight: float = 1.0
    reconstruction_weight: float = 1.0
    orthogonality_penalty: str = "cosine"
    detach_target: bool = False
    consistency_weight: float = 0.0
    complete_weight: float = 0.0
    unimodal_weight: float = 0.0
    dropped_modality: str = "erased"
    partly_missing: str = "impute"
    mean_label: float = 0.0
    class_shares: list[float] | tuple[float, ...] | None = None
    core: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name in RULES:
            setattr(self, name, _plain(getattr(self, name)))
        check(self)
        self.input_dims = {"audio": 5, "vision": 20} if self.input_dims is None else dict(self.input_dims)
        if self.max_lengths is None:
            self.max_lengths = {"text": MAX_TOKENS, "audio": 375, "vision": 500}
        self.typical_lengths = dict(self.max_lengths) | (self.typical_lengths or {})
        self.modalities = list(self.modalities)
        for name in self.modalities:
            if name not in self.max_lengths:
                raise ValueError(
                    f"DerlConfig expected max_lengths for {self.modalities}, got {list(self.max_lengths)}; add "
                    f"{name!r}."
                )
            if name != "text" and name not in self.input_dims:
                raise ValueError(
                    f"DerlConfig expected input_dims for every modality but text of {self.modalities}, "
                    f"got {list(self.input_dims)}; add {name!r}."
                )
        for name, length in self.typical_lengths.items():
            if length > self.max_lengths.get(name, 0):
                raise ValueError(
                    f"DerlConfig expected typical_lengths within max_lengths {self.max_lengths}, got {length} for "
                    f"{name!r}; lower it, or use a name in max_lengths."
                )
        num_outputs = PROBLEMS[self.problem_type].num_outputs
        if self.id2label is None and num_outputs is not None:
            self.num_labels = num_outputs
        super().__post_init__(**kwargs)
        self.architectures = self.architectures or ["DerlModel"]  # AutoModel reads it; save_pretrained overwrites it

    @classmethod
    def mosei(cls, **overrides: Any) -> "DerlConfig":
        """DERL on CMU-MOSEI: 8 tokens, 3 private experts, 74 acoustic and 35 visual features."""
        preset: dict[str, Any] = {
            "num_tokens": 8,
            "num_private_experts": 3,
            "input_dims": {"audio": 74, "vision": 35},
            "max_lengths": {"text": MAX_TOKENS, "audio": 500, "vision": 500},
        }
        return cls(**(preset | overrides))

    @classmethod
    def smoke(cls, **overrides: Any) -> "DerlConfig":
        """A model that trains in seconds, to check that everything runs; its scores mean nothing."""
        preset: dict[str, Any] = {
            "dim": 16,
            "num_heads": 2,
            "head_dim": 8,
            "ffn_dim": 16,
            "expert_dim": 16,
            "reconstructor_dim": 16,
            "router_dim": 16,
        }
        return cls(**(preset | overrides))


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's, which JSON can hold."""
    match value:
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return type(value)(map(_plain, value))
        case np.generic():
            return value.item()
    return value
