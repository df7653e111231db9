"""PlainDerl: DERL composed of plain torch layers, the baseline for speed and memory.

Every frame is projected to a query, a key and a value, and every row goes through every block. Experts and
reconstructors are separate modules, called in turn. The complete and the incomplete batch take two passes. Attention is
PyTorch's fused attention. B batch, N bottleneck tokens, D model width.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derl.model.config import DerlConfig
from derl.model.derl import DerlModel

Features = dict[str, Tensor]


class PlainDerl(nn.Module):
    """Compute the same function as :class:`derl.model.derl.DerlModel`, from text states on, with its losses.

    The losses are the defaults: squared error, the cosine as printed, and targets with gradients.

    Args:
        config: the model's configuration.
        input_dims: modality -> width of a frame, text included.
    """

    def __init__(self, config: DerlConfig, input_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, input_dims)
        self.disentangler = Disentangler(config)
        self.reconstructor = Reconstructor(config)
        views = 2 * len(input_dims)
        self.modality_router = Router(MLP(views * config.dim, config.router_dim, views))
        self.positions = nn.Parameter(0.02 * torch.randn(config.num_tokens, config.dim))
        self.transformer = nn.ModuleList(Block(config) for _ in range(config.fusion_depth))
        self.head = nn.Linear(config.dim, 1)

    def load_from(self, model: DerlModel) -> "PlainDerl":
        """Copy the parameters of ``model``, so that both compute the same function."""
        self.load_state_dict(self.translate(dict(model.named_parameters())))
        return self

    def translate(self, tensors: Mapping[str, Tensor]) -> Features:
        """Convert the model's parameters, or their gradients, to the names and shapes of this module."""
        layers = {"w1": "0.weight", "b1": "0.bias", "w2": "2.weight", "b2": "2.bias"}
        translated = {}
        for name, tensor in tensors.items():
            own = name.removeprefix("fusion.").replace("modality_router.router.", "modality_router.")
            owner, _, leaf = own.rpartition(".")
            owner = owner.replace(".blocks", "")
            if leaf in layers:
                for mlp, part in zip(self._mlps(owner), tensor, strict=True):
                    translated[f"{mlp}.{layers[leaf]}"] = part.T if leaf == "w2" else part
            else:
                translated[f"{owner}.{leaf}" if owner else leaf] = tensor
        return translated

    def _mlps(self, bank: str) -> list[str]:
        """Return the names of the modules that hold the experts of a bank, in order."""
        modalities, config = sorted(self.config.modalities), self.config
        match bank:
            case "disentangler.experts":
                private = [f"private_experts.{m}.{k}" for m in modalities for k in range(config.num_private_experts)]
                shared = [f"shared_experts.{k}" for k in range(config.num_shared_experts)]
                return [f"disentangler.{name}" for name in private + shared]
            case "reconstructor.networks.input":
                return [f"reconstructor.r1.{m}" for m in modalities]
            case "reconstructor.networks.disentangled":
                return [f"reconstructor.r2_{view}.{m}" for view in ("private", "shared") for m in modalities]
            case "reconstructor.networks.joint":
                return [f"reconstructor.r3.{m}" for m in modalities]
        return [bank]

    def forward(self, inputs: Features, masks: Features, keep: Features, labels: Tensor) -> Tensor:
        """Return the training loss (eq. 18); arguments as for the model, with text as states."""
        corrupted = {name: part * keep[name][..., None] for name, part in inputs.items()}
        features = self.encoder(corrupted, masks)
        private, shared = self.disentangler(features)
        target_features = self.encoder(inputs, masks)
        target_private, target_shared = self.disentangler(target_features)

        stacked = torch.stack([*private, *shared], dim=2)  # (B, N, 2 M, D)
        weights = self.modality_router(stacked.flatten(2))
        x = (weights[..., None] * stacked).sum(2) + self.positions
        for block in self.transformer:
            x = block(x)
        task = F.mse_loss(self.head(x.mean(1)).squeeze(-1), labels)

        orthogonality = sum(F.cosine_similarity(p, s, dim=-1).mean() for p, s in zip(private, shared, strict=True))
        rebuilt = self.reconstructor(features, private, shared)
        targets = (target_features, target_private, target_shared, target_features)
        reconstruction = sum(
            F.l1_loss(part, target)
            for parts, of_level in zip(rebuilt, targets, strict=True)
            for part, target in zip(parts, of_level, strict=True)
        )
        return (
            task
            + self.config.orthogonality_weight * orthogonality
            + self.config.reconstruction_weight * reconstruction / 3
        )


class MLP(nn.Sequential):
    """Linear, GELU, linear."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__(nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))


class Router(nn.Module):
    """Softmax over the logits of an MLP, with a learnable temperature."""

    def __init__(self, logits: nn.Module) -> None:
        super().__init__()
        self.logits = logits
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return (self.logits(x) / self.log_temperature.exp()).softmax(-1)


class Block(nn.Module):
    """Pre-norm self-attention, then an MLP."""

    def __init__(self, config: DerlConfig) -> None:
        super().__init__()
        dim, inner_dim = config.dim, config.num_heads * config.head_dim
        self.heads = (config.num_heads, config.head_dim)
        self.query_norm, self.key_norm, self.value_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(dim, inner_dim, bias=False) for _ in range(3))
        self.proj = nn.Linear(inner_dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = MLP(dim, config.ffn_dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        projected = (self.query(self.query_norm(x)), self.key(self.key_norm(x)), self.value(self.value_norm(x)))
        query, key, value = (part.unflatten(-1, self.heads).transpose(1, 2) for part in projected)
        shown = None if mask is None else mask[:, None, None, :]
        attention = F.scaled_dot_product_attention(query, key, value, attn_mask=shown)
        x = x + self.proj(attention.transpose(1, 2).flatten(2))
        return x + self.ffn(self.ffn_norm(x))


class Encoder(nn.Module):
    """Run bottleneck tokens and frames through one transformer per modality, and return the tokens."""

    def __init__(self, config: DerlConfig, input_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities, self.num_tokens = sorted(config.modalities), config.num_tokens
        self.projections = nn.ModuleDict({name: nn.Linear(input_dims[name], config.dim) for name in self.modalities})
        self.tokens = nn.Parameter(0.02 * torch.randn(config.num_tokens, config.dim))
        self.positions = nn.ParameterDict(
            {
                name: nn.Parameter(0.02 * torch.randn(config.num_tokens + config.max_lengths[name], config.dim))
                for name in self.modalities
            }
        )
        self.transformers = nn.ModuleDict(
            {name: nn.ModuleList(Block(config) for _ in range(config.encoder_depth)) for name in self.modalities}
        )

    def forward(self, inputs: Features, masks: Features) -> list[Tensor]:
        encoded = []
        for name in self.modalities:
            frames, mask = self.projections[name](inputs[name]), masks[name]
            x = torch.cat([self.tokens.expand(len(frames), -1, -1), frames], dim=1)
            x = x + self.positions[name][: x.shape[1]]
            mask = torch.cat([mask.new_ones(len(mask), self.num_tokens), mask], dim=1)
            for block in self.transformers[name]:
                x = block(x, mask)
            encoded.append(x[:, : self.num_tokens])
        return encoded


class Disentangler(nn.Module):
    """Run each modality's private experts and the shared ones, one after another."""

    def __init__(self, config: DerlConfig) -> None:
        super().__init__()

        def experts(count: int) -> nn.ModuleList:
            return nn.ModuleList(MLP(config.dim, config.expert_dim, config.dim) for _ in range(count))

        count = config.num_private_experts + config.num_shared_experts
        names = sorted(config.modalities)
        self.routers = nn.ModuleDict({name: Router(nn.Linear(config.dim, count)) for name in names})
        self.private_experts = nn.ModuleDict({name: experts(config.num_private_experts) for name in names})
        self.shared_experts = experts(config.num_shared_experts)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        private, shared = [], []
        for x, router, own in zip(features, self.routers.values(), self.private_experts.values(), strict=True):
            weights = router(x)
            outputs = [weights[..., k, None] * expert(x) for k, expert in enumerate([*own, *self.shared_experts])]
            private.append(torch.stack(outputs[: len(own)]).sum(0))
            shared.append(torch.stack(outputs[len(own) :]).sum(0))
        return private, shared


class Reconstructor(nn.Module):
    """Per modality: R1, R2 for each view, and R3."""

    def __init__(self, config: DerlConfig) -> None:
        super().__init__()

        def networks(width: int) -> nn.ModuleDict:
            sizes = width * config.dim, width * config.reconstructor_dim, config.dim
            return nn.ModuleDict({name: MLP(*sizes) for name in sorted(config.modalities)})

        self.r1, self.r2_private, self.r2_shared, self.r3 = networks(1), networks(1), networks(1), networks(2)

    def forward(
        self, features: Sequence[Tensor], private: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        both = [torch.cat(pair, dim=-1) for pair in zip(private, shared, strict=True)]
        levels = ((self.r1, features), (self.r2_private, private), (self.r2_shared, shared), (self.r3, both))
        return tuple([net(x) for net, x in zip(nets.values(), inputs, strict=True)] for nets, inputs in levels)
