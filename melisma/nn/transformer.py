"""Transformer blocks: RMSNorm, rotary positions, attention with a key-value cache, SwiGLU,
and condition vectors that scale and shift every block.

Hidden states are [batch, frame, width]. Sources: rotary positions 2104.09864; RMSNorm 1910.07467;
SwiGLU 2002.05202; adaptive norms as in DiT (2212.09748, section 3.2, adaLN-Zero).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROTARY_BASE = 10_000.0
"""Slowest wavelength of the rotary positions, in frames over 2 pi (2104.09864, section 3.2.2)."""


TIME_BASE = 1_000.0
"""The same for the second clock of `two_clock_angles`, in its units over 2 pi (chosen)."""


@dataclass(frozen=True, kw_only=True)
class AttentionCache:
    """Keys and values of the past of one layer, written in place round a ring.

    Slot `position % length` holds frame `position`, so that a window of `length` frames is kept
    however long the piece.
    """

    keys: Tensor
    """[batch, head, slot, width of a head]."""
    values: Tensor
    """[batch, head, slot, width of a head]."""

    def rows(self, index: Tensor, position: int) -> AttentionCache:
        """A copy of some rows of the batch, before the frame at `position` is written."""
        filled = min(position, self.keys.shape[2])
        kept = AttentionCache(
            keys=self.keys.new_empty((len(index), *self.keys.shape[1:])),
            values=self.values.new_empty((len(index), *self.values.shape[1:])),
        )
        kept.keys[:, :, :filled] = self.keys[index, :, :filled]
        kept.values[:, :, :filled] = self.values[index, :, :filled]
        return kept


def rotary_angles(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """positions [frame] -> (cosine, sine) [frame, head_width]."""
    half = torch.arange(head_width // 2, device=positions.device, dtype=torch.float32)
    frequencies = ROTARY_BASE ** (-half * 2 / head_width)
    angles = positions.float()[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def two_clock_angles(index: Tensor, time: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Rotary angles that follow two clocks: half of the planes turn with the place in the sequence,
    half with a time of the caller's own.

    index, time [..., frame] (of any real type) -> (cosine, sine) [..., 1, frame, head_width], the
    axis of 1 for the heads. Time's slowest wavelength is `TIME_BASE` times 2 pi of its units.
    """
    index, time = torch.broadcast_tensors(index, time)
    quarter = head_width // 4
    steps = torch.arange(quarter, device=index.device, dtype=torch.float32) / quarter
    places = index.float()[..., None] * ROTARY_BASE**-steps
    times = time.float()[..., None] * TIME_BASE**-steps
    angles = torch.cat([places, times, places, times], dim=-1).unsqueeze(-3)
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates [..., frame, head_width] by its positions' angles."""
    first, second = vectors.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return vectors * cosine.to(vectors.dtype) + turned * sine.to(vectors.dtype)


class Norm(nn.RMSNorm):
    """RMSNorm in the precision of its weight, whatever enters (bfloat16 under autocast).

    To the bit what torch does by itself, but without its warning, and faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape and type."""
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype)).type_as(x)


class Attention(nn.Module):
    """Multi-head self-attention, causal or not, with rotary positions."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.leave = nn.Linear(width, width, bias=False)

    def _split(self, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        batch, frames, _ = hidden.shape
        parts = self.enter(hidden).view(batch, frames, 3, self.heads, self.head_width)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return rotate(query, *angles), rotate(key, *angles), value

    def _merge(self, mixed: Tensor) -> Tensor:
        batch, _, frames, _ = mixed.shape
        return self.leave(mixed.transpose(1, 2).reshape(batch, frames, -1))

    def forward(
        self, hidden: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool
    ) -> Tensor:
        """Whole sequences. `mask`: true where frame (row) may look at frame (column)."""
        query, key, value = self._split(hidden, angles)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal and mask is None
        )
        return self._merge(mixed)

    def step(
        self, hidden: Tensor, angles: tuple[Tensor, Tensor], cache: AttentionCache, position: int
    ) -> Tensor:
        """One frame [batch, 1, width] at `position`, looking at the cached window."""
        query, key, value = self._split(hidden, angles)
        length = cache.keys.shape[2]
        slot = position % length
        cache.keys[:, :, slot] = key[:, :, 0]
        cache.values[:, :, slot] = value[:, :, 0]
        filled = min(position + 1, length)
        mixed = F.scaled_dot_product_attention(
            query, cache.keys[:, :, :filled], cache.values[:, :, :filled]
        )
        return self._merge(mixed)


class Block(nn.Module):
    """Attention and SwiGLU, each behind a norm that a condition may scale and shift."""

    def __init__(self, *, width: int, heads: int, hidden_width: int, condition_width: int) -> None:
        super().__init__()
        self.attention_norm = Norm(width, eps=1e-5)
        self.attention = Attention(width=width, heads=heads)
        self.mix_norm = Norm(width, eps=1e-5)
        self.mix_in = nn.Linear(width, 2 * hidden_width, bias=False)
        self.mix_out = nn.Linear(hidden_width, width, bias=False)
        self.modulate = nn.Linear(condition_width, 4 * width) if condition_width else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def modulation(self, condition: Tensor | None) -> tuple[Tensor, ...] | None:
        """condition [batch, 1 or frame, width] -> scale and shift of both norms."""
        if self.modulate is None or condition is None:
            return None
        return self.modulate(condition).chunk(4, dim=-1)

    def _mix(self, hidden: Tensor) -> Tensor:
        gate, value = self.mix_in(hidden).chunk(2, dim=-1)
        return self.mix_out(F.silu(gate) * value)

    def forward(
        self,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor],
        modulation: tuple[Tensor, ...] | None,
        *,
        mask: Tensor | None = None,
        causal: bool = True,
        dropout: float = 0.0,
    ) -> Tensor:
        """Whole sequences [batch, frame, width]."""
        normed = _modulated(self.attention_norm(hidden), modulation, 0)
        mixed = self.attention(normed, angles, mask, causal)
        hidden = hidden + F.dropout(mixed, dropout, self.training)
        mixed = self._mix(_modulated(self.mix_norm(hidden), modulation, 2))
        return hidden + F.dropout(mixed, dropout, self.training)

    def step(
        self,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor],
        modulation: tuple[Tensor, ...] | None,
        cache: AttentionCache,
        position: int,
    ) -> Tensor:
        """One frame [batch, 1, width]; the cache is written in place."""
        normed = _modulated(self.attention_norm(hidden), modulation, 0)
        hidden = hidden + self.attention.step(normed, angles, cache, position)
        return hidden + self._mix(_modulated(self.mix_norm(hidden), modulation, 2))


def _modulated(hidden: Tensor, modulation: tuple[Tensor, ...] | None, first: int) -> Tensor:
    if modulation is None:
        return hidden
    scale, shift = modulation[first], modulation[first + 1]
    return hidden * (1 + scale) + shift


class Trunk(nn.Module):
    """A stack of blocks and a last norm."""

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        expansion: float = 8 / 3,
        condition_width: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        hidden_width = round(width * expansion / 32) * 32
        self.layers = nn.ModuleList(
            Block(
                width=width,
                heads=heads,
                hidden_width=hidden_width,
                condition_width=condition_width,
            )
            for _ in range(layers)
        )
        self.norm = Norm(width, eps=1e-5)
        for layer in self.blocks:
            for out in (layer.attention.leave, layer.mix_out):
                nn.init.normal_(out.weight, std=0.02 / (2 * layers) ** 0.5)

    @property
    def blocks(self) -> list[Block]:
        """The layers, as what they are."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def forward(
        self,
        hidden: Tensor,
        condition: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = True,
        dropout: float = 0.0,
        keep: int | None = None,
        angles: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """[batch, frame, width] -> (normed output, hidden state after layer `keep` or None).

        `angles`: rotary angles of every frame; those of its place in the sequence by default.
        """
        if angles is None:
            positions = torch.arange(hidden.shape[1], device=hidden.device)
            angles = rotary_angles(positions, self.width // self.heads)
        kept = None
        for number, layer in enumerate(self.blocks, start=1):
            hidden = layer(
                hidden,
                angles,
                layer.modulation(condition),
                mask=mask,
                causal=causal,
                dropout=dropout,
            )
            if number == keep:
                kept = hidden
        return self.norm(hidden), kept

    def initial_cache(self, batch: int, window_frames: int) -> tuple[AttentionCache, ...]:
        """Empty caches for `step`, one a layer; what no frame has filled is never read."""
        weight = self.blocks[0].attention.leave.weight
        shape = (batch, self.heads, window_frames, self.width // self.heads)
        return tuple(
            AttentionCache(keys=weight.new_empty(shape), values=weight.new_empty(shape))
            for _ in self.layers
        )

    def modulations(self, condition: Tensor | None) -> list[tuple[Tensor, ...] | None]:
        """What the condition says to every layer: computed once, used at every step."""
        return [layer.modulation(condition) for layer in self.blocks]

    def step(
        self,
        hidden: Tensor,
        modulations: list[tuple[Tensor, ...] | None],
        cache: tuple[AttentionCache, ...],
        position: int,
        angles: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """One frame [batch, 1, width] at `position` (0-based, ascending by one); `angles` as in
        `forward`."""
        if angles is None:
            place = torch.tensor([position], device=hidden.device)
            angles = rotary_angles(place, self.width // self.heads)
        for layer, modulation, one in zip(self.blocks, modulations, cache, strict=True):
            hidden = layer.step(hidden, angles, modulation, one, position)
        return self.norm(hidden)


def window_mask(frames: int, window_frames: int, device: torch.device) -> Tensor | None:
    """Causal mask [frame, frame] that looks back over `window_frames`; None where all fits."""
    if frames <= window_frames:
        return None
    row = torch.arange(frames, device=device)
    back = row[:, None] - row[None, :]
    return (back >= 0) & (back < window_frames)
