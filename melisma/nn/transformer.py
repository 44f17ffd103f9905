"""Transformer blocks: norms, position embeddings, self- and cross-attention, feed-forward layers,
and modulation by condition vectors.

Hidden states are [batch, frame, width]. Two families of blocks, in any combination: ours (RMSNorm
1910.07467, rotary embeddings 2104.09864, SwiGLU 2002.05202, adaptive norms as in DiT, 2212.09748,
section 3.2) and MusicGen's (2306.05284: LayerNorm, sinusoidal embeddings, GELU).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.linear import Linear
from melisma.values.errors import MelismaError

ROTARY_BASE = 10_000.0
"""Longest wavelength of the rotary embeddings, in frames over 2 pi (2104.09864, section 3.2.2)."""


NORM_EPSILON = 1e-5
"""Added to the mean square or variance under the root of every norm."""
TIME_BASE = 1_000.0
"""The same for the time axis of `two_axis_rotary_angles`, in its units over 2 pi (chosen)."""


def rotary_angles(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Angles of rotary embeddings (RoPE, 2104.09864).

    Args:
        positions: [frame].
        head_width: Size of a head.

    Returns:
        (cosine, sine), float32 [frame, head_width].
    """
    half = torch.arange(head_width // 2, device=positions.device, dtype=torch.float32)
    frequencies = ROTARY_BASE ** (-half * 2 / head_width)
    angles = positions.float()[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def two_axis_rotary_angles(index: Tensor, time: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Angles of rotary embeddings over two axes: half of the planes rotate with the position in the
    sequence, half with a time.

    Args:
        index: Positions [..., frame], of any real type.
        time: Times [..., frame]; their longest wavelength is `TIME_BASE` times 2 pi of their units.
        head_width: Size of a head.

    Returns:
        (cosine, sine), float32 [..., 1, frame, head_width], with an axis of 1 for the heads.
    """
    index, time = torch.broadcast_tensors(index, time)
    quarter = head_width // 4
    steps = torch.arange(quarter, device=index.device, dtype=torch.float32) / quarter
    positions = index.float()[..., None] * ROTARY_BASE**-steps
    times = time.float()[..., None] * TIME_BASE**-steps
    angles = torch.cat([positions, times, positions, times], dim=-1).unsqueeze(-3)
    return angles.cos(), angles.sin()


def apply_rotary(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Applies rotary embeddings to vectors [..., frame, head_width]; angles [frame, head_width]."""
    first, second = vectors.chunk(2, dim=-1)
    rotated = torch.cat([-second, first], dim=-1)
    return vectors * cosine.to(vectors.dtype) + rotated * sine.to(vectors.dtype)


class RMSNorm(nn.RMSNorm):
    """RMSNorm in the precision of its weight, for any type of input (bfloat16 under autocast).

    Bit-identical to torch's, but without its warning, and faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape and type."""
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype)).type_as(x)


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the precision of its weight, for any type of input."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape and type."""
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype)).type_as(x)


NORMS = {"rms": RMSNorm, "layer": LayerNorm}
"""Norm classes by their names in settings."""


def sinusoidal_embedding(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal position embeddings (1706.03762, section 3.5): positions [position] -> [position,
    width], cosines, then sines, as in audiocraft and transformers."""
    half = width // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32) / (half - 1)
    angles = positions.float()[:, None] * torch.exp(-math.log(ROTARY_BASE) * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@dataclass(frozen=True, kw_only=True)
class TrunkShape:
    """Sizes and variants of a trunk. Raises `MelismaError` where they are incompatible."""

    width: int
    layers: int
    heads: int
    hidden_width: int
    """Width inside the feed-forward layers."""
    condition_width: int = 0
    """Width of the condition vectors that scale and shift every block; 0 for none."""
    norm: str = "rms"
    """"rms" or "layer"."""
    feed_forward: str = "swiglu"
    """"swiglu" or "gelu"."""
    positions: str = "rotary"
    """"rotary", or "sinusoidal": added once to what enters."""
    text: bool = False
    """Whether every block has cross-attention to a text."""

    def __post_init__(self) -> None:
        for name, known in (
            ("norm", tuple(NORMS)),
            ("feed_forward", ("swiglu", "gelu")),
            ("positions", ("rotary", "sinusoidal")),
        ):
            if getattr(self, name) not in known:
                raise MelismaError(
                    f'no {name} "{getattr(self, name)}": known are {", ".join(known)}'
                )
        if self.width % self.heads or self.width // self.heads % 2:
            raise MelismaError(
                f"{self.heads} heads do not share a width of {self.width}: each needs an even part"
            )


class Attention(nn.Module):
    """Multi-head self-attention, causal or bidirectional, with or without rotary embeddings."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.qkv_proj = Linear(width, 3 * width, bias=False)
        self.out_proj = Linear(width, width, bias=False)

    def _split(self, hidden: Tensor, angles: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
        batch, frames, _ = hidden.shape
        parts = self.qkv_proj(hidden).view(batch, frames, 3, self.heads, self.head_width)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if angles is None:
            return query, key, value
        return apply_rotary(query, *angles), apply_rotary(key, *angles), value

    def _merge(self, mixed: Tensor) -> Tensor:
        batch, _, frames, _ = mixed.shape
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, frames, -1))

    def forward(
        self,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """Attention over whole sequences.

        Args:
            hidden: [batch, frame, width].
            angles: (cosine, sine) of rotary embeddings, or None.
            mask: bool [query frame, key frame], true where attention is allowed, or None.
            causal: Whether attention is causal; a mask takes precedence.

        Returns:
            [batch, frame, width].
        """
        query, key, value = self._split(hidden, angles)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal and mask is None
        )
        return self._merge(mixed)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A batch of encoded texts for cross-attention."""

    states: Tensor
    """float [batch, token, width]."""
    lengths: Tensor
    """int64 [batch]: number of tokens; 0 where the text is not given."""

    @property
    def present(self) -> Tensor:
        """Mask bool [batch, token], false for padding."""
        positions = torch.arange(self.states.shape[1], device=self.states.device, dtype=torch.long)
        return positions < self.lengths[:, None]


class CrossAttention(nn.Module):
    """Multi-head cross-attention to the states of a text."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Linear(width, width, bias=False)
        self.kv_proj = Linear(width, 2 * width, bias=False)
        self.out_proj = Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """Attends to a text.

        Args:
            hidden: [batch, frame, width].
            text: [batch, token, width].
            present: bool [batch, token], false for padding.

        Returns:
            [batch, frame, width]; zeros where the text has no tokens.
        """
        query = self.q_proj(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        kv = self.kv_proj(text).unflatten(-1, (2, self.heads, -1))
        key, value = kv.permute(2, 0, 3, 1, 4)
        # Without any token attention goes to the padding, and its result is zeroed.
        given = present.any(dim=1)[:, None, None]
        mask = present | ~given[:, 0]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return self.out_proj(mixed.transpose(1, 2).flatten(2) * given)


class Block(nn.Module):
    """Pre-norm block: self-attention, optional cross-attention to a text, feed-forward layer. The
    norms of the first and the last may be modulated by a condition."""

    def __init__(self, shape: TrunkShape) -> None:
        super().__init__()
        width, heads, norm = shape.width, shape.heads, NORMS[shape.norm]
        self.gated = shape.feed_forward == "swiglu"
        self.attention_norm = norm(width, eps=NORM_EPSILON)
        self.attention = Attention(width=width, heads=heads)
        if shape.text:
            self.cross_attention_norm = norm(width, eps=NORM_EPSILON)
            self.cross_attention = CrossAttention(width=width, heads=heads)
        self.feed_forward_norm = norm(width, eps=NORM_EPSILON)
        wide = shape.hidden_width * (2 if self.gated else 1)
        self.up_proj = Linear(width, wide, bias=False)
        self.down_proj = Linear(shape.hidden_width, width, bias=False)
        conditioned = shape.condition_width
        self.modulate = Linear(conditioned, 4 * width) if conditioned else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def modulation(self, condition: Tensor | None) -> tuple[Tensor, ...] | None:
        """Condition [batch, 1 or frame, condition width] -> scale and shift of both norms, each
        [batch, 1 or frame, width]; None without a condition."""
        if self.modulate is None or condition is None:
            return None
        return self.modulate(condition).chunk(4, dim=-1)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """The feed-forward layer: SwiGLU or GELU."""
        if not self.gated:
            return self.down_proj(F.gelu(self.up_proj(hidden)))
        gate, value = self.up_proj(hidden).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * value)

    def forward(
        self,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        modulation: tuple[Tensor, ...] | None,
        *,
        text: Text | None = None,
        mask: Tensor | None = None,
        causal: bool = True,
        dropout: float = 0.0,
    ) -> Tensor:
        """Runs the block on whole sequences.

        Args:
            hidden: [batch, frame, width].
            angles: (cosine, sine) of rotary embeddings, or None.
            modulation: Of both norms, see `modulation`.
            text: For cross-attention, or None.
            mask: bool [query frame, key frame], or None.
            causal: Whether attention is causal; a mask takes precedence.
            dropout: Probability, after attention and feed-forward layer, in training.
        """
        normed = modulate(self.attention_norm(hidden), modulation, 0)
        mixed = self.attention(normed, angles, mask, causal)
        hidden = hidden + F.dropout(mixed, dropout, self.training)
        if text is not None:
            mixed = self.cross_attention(
                self.cross_attention_norm(hidden), text.states, text.present
            )
            hidden = hidden + F.dropout(mixed, dropout, self.training)
        mixed = self.feed_forward(modulate(self.feed_forward_norm(hidden), modulation, 2))
        return hidden + F.dropout(mixed, dropout, self.training)


def modulate(hidden: Tensor, modulation: tuple[Tensor, ...] | None, first: int) -> Tensor:
    """Scales and shifts by entries `first` and `first + 1` of a modulation, unless it is None
    (adaLN, 2212.09748, section 3.2)."""
    if modulation is None:
        return hidden
    scale, shift = modulation[first], modulation[first + 1]
    return hidden * (1 + scale) + shift


class Trunk(nn.Module):
    """A stack of blocks and a final norm."""

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        expansion: float = 8 / 3,
        condition_width: int = 0,
        norm: str = "rms",
        feed_forward: str = "swiglu",
        positions: str = "rotary",
        text: bool = False,
    ) -> None:
        """Random weights. The arguments are those of `TrunkShape`, except:

        Args:
            expansion: Width inside the feed-forward layers relative to `width`; the product is
                rounded to a multiple of 32.
        """
        super().__init__()
        self.shape = TrunkShape(
            width=width,
            layers=layers,
            heads=heads,
            hidden_width=round(width * expansion / 32) * 32,
            condition_width=condition_width,
            norm=norm,
            feed_forward=feed_forward,
            positions=positions,
            text=text,
        )
        self.width, self.heads = width, heads
        self.layers = nn.ModuleList(Block(self.shape) for _ in range(layers))
        self.norm = NORMS[norm](width, eps=NORM_EPSILON)
        for layer in self.blocks:
            projections = [layer.attention.out_proj, layer.down_proj]
            for out in projections + ([layer.cross_attention.out_proj] if text else []):
                nn.init.normal_(out.weight, std=0.02 / (2 * layers) ** 0.5)

    @property
    def blocks(self) -> list[Block]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def forward(
        self,
        hidden: Tensor,
        condition: Tensor | None = None,
        *,
        text: Text | None = None,
        mask: Tensor | None = None,
        causal: bool = True,
        dropout: float = 0.0,
        keep: int | None = None,
        angles: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Runs all blocks on whole sequences.

        Args:
            hidden: [batch, frame, width].
            condition: [batch, 1 or frame, condition width], or None.
            text: For cross-attention, or None.
            mask: bool [query frame, key frame], or None.
            causal: Whether attention is causal; a mask takes precedence.
            dropout: Probability, in training.
            keep: Number of the layer, from 1, whose output is returned too.
            angles: (cosine, sine) of rotary embeddings; by default those of the positions in the
                sequence.

        Returns:
            (Normalized output [batch, frame, width], hidden state after layer `keep` or None.)
        """
        positions = torch.arange(hidden.shape[1], device=hidden.device, dtype=torch.long)
        if self.shape.positions == "sinusoidal":
            hidden = hidden + sinusoidal_embedding(positions, self.width)
        elif angles is None:
            angles = rotary_angles(positions, self.width // self.heads)
        hidden_at_keep = None
        for number, layer in enumerate(self.blocks, start=1):
            hidden = layer(
                hidden,
                angles,
                layer.modulation(condition),
                text=text,
                mask=mask,
                causal=causal,
                dropout=dropout,
            )
            if number == keep:
                hidden_at_keep = hidden
        return self.norm(hidden), hidden_at_keep

    def modulations(self, condition: Tensor | None) -> list[tuple[Tensor, ...] | None]:
        """Modulations of every layer: computed once, used at every step."""
        return [layer.modulation(condition) for layer in self.blocks]


def window_mask(frames: int, window_frames: int, device: torch.device) -> Tensor | None:
    """Sliding-window causal mask.

    Args:
        frames: Length of the sequence.
        window_frames: Frames that each frame attends to, itself included.
        device: Of the mask.

    Returns:
        bool [query frame, key frame]; None where the sequence fits into the window.
    """
    if frames <= window_frames:
        return None
    row = torch.arange(frames, device=device, dtype=torch.long)
    distance = row[:, None] - row[None, :]
    return (distance >= 0) & (distance < window_frames)
