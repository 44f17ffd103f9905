"""Small bidirectional transformer of both towers: pre-norm, rotary positions, GELU.

Hidden states are [batch, token, width]; `present` [batch, token] is the padding mask.
Attention: Vaswani et al., 1706.03762; rotary positions: Su et al., 2104.09864.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _rotations(length: int, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [token, head_width / 2] of the rotary angles of every position."""
    rates = 10_000.0 ** (
        -torch.arange(0, head_width, 2, device=device, dtype=torch.long).float() / head_width
    )
    angles = torch.arange(length, device=device, dtype=torch.long).float()[:, None] * rates
    return angles.cos(), angles.sin()


def _rotated(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    cosine, sine = cosine.to(heads.dtype), sine.to(heads.dtype)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class TransformerLayer(nn.Module):
    """Self-attention over all present positions and a feed-forward block, both residual."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.up_proj = nn.Linear(width, 4 * width)
        self.down_proj = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor, present: Tensor) -> Tensor:
        """hidden [batch, token, width], present [batch, token] -> the same shape as hidden."""
        length = hidden.shape[1]
        parts = self.qkv_proj(self.attention_norm(hidden)).unflatten(-1, (3, self.heads, -1))
        query, keyed, value = parts.permute(2, 0, 3, 1, 4)
        cosine, sine = _rotations(length, query.shape[-1], hidden.device)
        query, keyed = _rotated(query, cosine, sine), _rotated(keyed, cosine, sine)
        mixed = F.scaled_dot_product_attention(
            query, keyed, value, attn_mask=present[:, None, None, :]
        )
        mixed = self.out_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + F.dropout(mixed, self.dropout, self.training)
        wide = F.gelu(self.up_proj(self.feed_forward_norm(hidden)), approximate="tanh")
        return hidden + F.dropout(self.down_proj(wide), self.dropout, self.training)


class Transformer(nn.Module):
    """Stack of layers. The output is not normalized: pool it first, then apply a norm."""

    def __init__(self, *, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width=width, heads=heads, dropout=dropout) for _ in range(layers)
        )
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            nn.init.normal_(layer.qkv_proj.weight, std=width**-0.5)
            nn.init.normal_(layer.up_proj.weight, std=width**-0.5)
            for out in (layer.out_proj, layer.down_proj):
                nn.init.normal_(out.weight, std=(2 * layers * out.in_features) ** -0.5)

    def forward(self, hidden: Tensor, present: Tensor) -> Tensor:
        """hidden [batch, token, width], present [batch, token] -> the same shape as hidden."""
        for layer in self.layers:
            hidden = layer(hidden, present)
        return hidden


def mean_over(hidden: Tensor, present: Tensor) -> Tensor:
    """Mean of the present positions: [batch, token, width] -> [batch, width]."""
    share = present.to(hidden.dtype) / present.sum(dim=1, keepdim=True).clamp(min=1)
    return (hidden * share[..., None]).sum(dim=1)


class AttentionPool(nn.Module):
    """Attention pooling with a learned query: [batch, token, width] -> [batch, width].

    Each head has its own weights (the multi-head attention pooling of Lee et al., Set Transformer,
    1810.00825, section 3.2, without its feed-forward part).
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, heads)
        self.value = nn.Linear(width, width)
        self.heads = heads

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, token, width] -> [batch, width]."""
        weights = self.score(hidden).softmax(dim=1)
        value = self.value(hidden).unflatten(-1, (self.heads, -1))
        return torch.einsum("bth,bthw->bhw", weights, value).flatten(1)
