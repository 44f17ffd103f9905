"""T5 encoder: contextual states of the tokens of a text.

Raffel et al., 1910.10683, section 2.1: RMSNorm, no biases, attention scores that are not divided by
the square root of the head size, and relative position biases, a learned number for each bucket of
distances, shared by all layers. The feed-forward layer is ReLU (1910.10683) or gated GELU
(2002.05202, as in T5 1.1 and Flan-T5). Inference only, so there is no dropout.

Input: tokens int64 [batch, token] and a mask of present ones, bool [batch, token]. Output: states
[batch, token, width]. Weights are read under their names in transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.transformer import RMSNorm
from melisma.values.errors import MelismaError

FEED_FORWARD = ("relu", "gated-gelu")
"""Kinds of feed-forward layer, as `feed_forward_proj` names them."""


@dataclass(frozen=True, kw_only=True)
class T5Settings:
    """Sizes of the encoder; the defaults are those of T5 small, as in transformers."""

    vocabulary: int = 32_128
    """Entries of the token embedding."""
    width: int = 512
    """Width of the residual stream and of the states."""
    layers: int = 6
    heads: int = 8
    head_width: int = 64
    """Size of a head; heads times this need not equal `width`."""
    hidden_width: int = 2_048
    """Width inside the feed-forward layer."""
    gated: bool = False
    """Gated GELU instead of ReLU."""
    buckets: int = 32
    """Buckets of relative positions, half of them forward (1910.10683, section 2.1)."""
    longest_distance: int = 128
    """Distance in tokens from which on all share the last bucket."""
    epsilon: float = 1e-6
    """Added to the mean square in the norms."""

    def __post_init__(self) -> None:
        counts = {name: value for name, value in vars(self).items() if name not in _NOT_COUNTS}
        for name, value in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise MelismaError(f"{name} of a T5 encoder is a whole number from 1, not {value}")
            if value > (_MAX_PARTS if name in ("layers", "heads") else _MAX_SIZE):
                raise MelismaError(f"{name} of a T5 encoder is {value}: that is beyond all limits")
        if self.buckets % 4 or self.longest_distance <= self.buckets // 4:
            raise MelismaError(
                "the buckets of a T5 encoder are a multiple of 4, and its longest distance is "
                f"above a quarter of them, not {self.buckets} and {self.longest_distance}"
            )
        if not isinstance(self.epsilon, float) or not 0 < self.epsilon < 1:
            raise MelismaError(f"epsilon of a T5 encoder is between 0 and 1, not {self.epsilon}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> T5Settings:
        """Reads the settings from a config.json of transformers.

        Args:
            config: The JSON object; of a larger model its `text_encoder`. Missing entries have the
                defaults of T5 small.

        Raises:
            MelismaError: Another model family or feed-forward layer, or invalid sizes.
        """
        family = config.get("model_type", "t5")
        if family != "t5":
            raise MelismaError(f'the text encoder is of the family "{family}": read is t5 alone')
        kind = config.get("feed_forward_proj", "relu")
        if kind not in FEED_FORWARD:
            raise MelismaError(
                f'the feed-forward layer of the text encoder is "{kind}": read are '
                f"{' and '.join(FEED_FORWARD)}"
            )
        given = {ours: config[theirs] for ours, theirs in _CONFIG_NAMES.items() if theirs in config}
        return cls(gated=kind == "gated-gelu", **given)


_MAX_SIZE, _MAX_PARTS = 2**24, 1024
"""Largest sizes, and most layers and heads (chosen: above any in use)."""
_NOT_COUNTS = ("gated", "epsilon")
_CONFIG_NAMES = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "layers": "num_layers",
    "heads": "num_heads",
    "head_width": "d_kv",
    "hidden_width": "d_ff",
    "buckets": "relative_attention_num_buckets",
    "longest_distance": "relative_attention_max_distance",
    "epsilon": "layer_norm_epsilon",
}


def distance_buckets(tokens: int, buckets: int, longest_distance: int) -> Tensor:
    """Bucket of the relative position of every pair of tokens (1910.10683, section 2.1).

    A quarter of the buckets are single distances backward, a quarter grow with the logarithm of the
    distance up to `longest_distance`; the other half are the same forward.

    Args:
        tokens: Length of the text.
        buckets: Number of buckets.
        longest_distance: Distance from which on all share the last bucket.

    Returns:
        int64 [query token, key token].
    """
    position = torch.arange(tokens, dtype=torch.long, device="cpu")
    ahead = position[None, :] - position[:, None]
    each_way, single = buckets // 2, buckets // 4
    distance = ahead.abs()
    # In float32 and in this order, as when the weights were trained: rounding decides the bucket of
    # a distance on an edge.
    far = torch.log(distance.clamp(min=1).float() / single)
    far = far / math.log(longest_distance / single) * (each_way - single)
    bucket = torch.where(distance < single, distance, (single + far.long()).clamp(max=each_way - 1))
    return bucket + (ahead > 0) * each_way


class _Attention(nn.Module):
    """Self-attention with unscaled scores and a position bias."""

    def __init__(self, settings: T5Settings) -> None:
        super().__init__()
        self.heads = settings.heads
        inner = settings.heads * settings.head_width
        self.q_proj = nn.Linear(settings.width, inner, bias=False)
        self.k_proj = nn.Linear(settings.width, inner, bias=False)
        self.v_proj = nn.Linear(settings.width, inner, bias=False)
        self.out_proj = nn.Linear(inner, settings.width, bias=False)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """hidden [batch, token, width], bias [batch or 1, head, token, token]."""
        query, key, value = (
            layer(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Pre-norm attention and feed-forward layer."""

    def __init__(self, settings: T5Settings) -> None:
        super().__init__()
        width, hidden_width = settings.width, settings.hidden_width
        self.attention_norm = RMSNorm(width, eps=settings.epsilon)
        self.attention = _Attention(settings)
        self.feed_forward_norm = RMSNorm(width, eps=settings.epsilon)
        self.up_proj = nn.Linear(width, hidden_width, bias=False)
        self.gate_proj = nn.Linear(width, hidden_width, bias=False) if settings.gated else None
        self.down_proj = nn.Linear(hidden_width, width, bias=False)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """hidden float32 [batch, token, width]; the matrices may have a lower precision."""
        matrix = self.up_proj.weight.dtype
        mixed = self.attention(self.attention_norm(hidden).to(matrix), bias)
        hidden = hidden + mixed.float()
        normed = self.feed_forward_norm(hidden).to(matrix)
        if self.gate_proj is None:
            inner = F.relu(self.up_proj(normed))
        else:
            inner = F.gelu(self.gate_proj(normed), approximate="tanh") * self.up_proj(normed)
        return hidden + self.down_proj(inner).float()


def _empty_table(rows: int, width: int) -> nn.Embedding:
    """An embedding of zeros: random initialization takes torch two seconds and 70 MB, even on the
    "meta" device."""
    return nn.Embedding.from_pretrained(
        torch.zeros(rows, width, dtype=torch.float32, device="cpu"), freeze=False
    )


class T5Encoder(nn.Module):
    """T5 encoder. Its weights come from a checkpoint, see `load_t5_encoder`; a new one has zeros in
    its embeddings."""

    def __init__(self, settings: T5Settings) -> None:
        super().__init__()
        self.settings = settings
        self.table = _empty_table(settings.vocabulary, settings.width)
        self.distances = _empty_table(settings.buckets, settings.heads)
        self.blocks = nn.ModuleList(_Block(settings) for _ in range(settings.layers))
        self.norm = RMSNorm(settings.width, eps=settings.epsilon)

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Encodes texts.

        Args:
            tokens: int64 [batch, token].
            present: bool [batch, token], false for padding; all true by default.

        Returns:
            States float32 [batch, token, width]; those of padding are meaningless.
        """
        hidden = self.table(tokens).float()
        bias = self._bias(tokens.shape[1], present)
        for block in self.blocks:
            hidden = block(hidden, bias)
        return self.norm(hidden)

    @property
    def matrices(self) -> torch.dtype:
        """Type of the weight matrices."""
        return self.table.weight.dtype

    def _bias(self, tokens: int, present: Tensor | None) -> Tensor:
        """Position bias and mask, added to all layers' scores: [batch or 1, head, token, token]."""
        settings, numbers = self.settings, self.distances.weight
        # Always on the CPU, where every machine rounds the logarithm alike.
        bucket = distance_buckets(tokens, settings.buckets, settings.longest_distance)
        bias = numbers[bucket.to(numbers.device)].permute(2, 0, 1)[None].to(self.matrices)
        if present is not None:
            # Not minus infinity: a row without any token would become NaN.
            lowest = torch.finfo(bias.dtype).min
            bias = bias.masked_fill(~present[:, None, None, :], lowest)
        return bias


def published_names(settings: T5Settings, prefix: str = "text_encoder.") -> dict[str, str]:
    """Maps the name of every parameter here to its name in a checkpoint of transformers."""
    first_block = "encoder.block.0.layer.0"
    names = {
        "table.weight": "shared.weight",
        "distances.weight": f"{first_block}.SelfAttention.relative_attention_bias.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    # With a gate, the first matrix is the input of GELU.
    entry = {"gate_proj": "wi_0", "up_proj": "wi_1"} if settings.gated else {"up_proj": "wi"}
    for layer in range(settings.layers):
        first, second = (f"encoder.block.{layer}.layer.{part}" for part in (0, 1))
        for ours, theirs in {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "o"}.items():
            names[f"blocks.{layer}.attention.{ours}.weight"] = (
                f"{first}.SelfAttention.{theirs}.weight"
            )
        for ours, theirs in {**entry, "down_proj": "wo"}.items():
            names[f"blocks.{layer}.{ours}.weight"] = f"{second}.DenseReluDense.{theirs}.weight"
        names[f"blocks.{layer}.attention_norm.weight"] = f"{first}.layer_norm.weight"
        names[f"blocks.{layer}.feed_forward_norm.weight"] = f"{second}.layer_norm.weight"
    return {ours: prefix + theirs for ours, theirs in names.items()}


def published_shapes(
    settings: T5Settings, prefix: str = "text_encoder."
) -> dict[str, tuple[int, ...]]:
    """Maps the name of every tensor in a checkpoint of transformers to its shape."""
    with torch.device("meta"):
        empty = T5Encoder(settings)
    names = published_names(settings, prefix)
    return {names[ours]: tuple(weight.shape) for ours, weight in empty.named_parameters()}


def load_t5_encoder(
    settings: T5Settings,
    read: Callable[[str, torch.dtype], Tensor],
    *,
    prefix: str = "text_encoder.",
    matrices: torch.dtype = torch.float32,
) -> T5Encoder:
    """Builds an encoder from a checkpoint, without gradients, in evaluation mode.

    Args:
        settings: Sizes.
        read: Returns a tensor by its name and requested type; called once per tensor, so that all
            weights are in memory only once.
        prefix: Of the names in the checkpoint.
        matrices: Type of the matrices; norms, position biases, residual stream and states are
            always float32.
    """
    with torch.device("meta"):
        encoder = T5Encoder(settings)
    exact = ("norm.weight", "distances.weight")
    weights = {
        ours: read(theirs, torch.float32 if ours.endswith(exact) else matrices)
        for ours, theirs in published_names(settings, prefix).items()
    }
    encoder.load_state_dict(weights, assign=True)
    return encoder.requires_grad_(False).eval()
