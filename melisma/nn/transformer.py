"""Transformer blocks: norms, positions, attention, feed-forward parts, attention to texts, and
condition vectors that scale and shift every block.

Hidden states are [batch, frame, width]. Two families of blocks: ours (RMSNorm 1910.07467, rotary
positions 2104.09864, SwiGLU 2002.05202, adaptive norms as in DiT, 2212.09748, section 3.2) and that
of MusicGen (2306.05284: LayerNorm, sinusoidal positions, GELU), in any mixture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.linear import Linear

ROTARY_BASE = 10_000.0
"""Slowest wavelength of the rotary positions, in frames over 2 pi (2104.09864, section 3.2.2)."""


NORM_EPSILON = 1e-5
"""Added to the mean square under the root of every norm."""
TIME_BASE = 1_000.0
"""The same for the second clock of `two_clock_angles`, in its units over 2 pi (chosen)."""


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


class RMSNorm(nn.RMSNorm):
    """RMSNorm in the precision of its weight, whatever enters (bfloat16 under autocast).

    To the bit what torch does by itself, but without its warning, and faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape and type."""
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype)).type_as(x)


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the precision of its weight, whatever enters."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape and type."""
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype)).type_as(x)


NORMS = {"rms": RMSNorm, "layer": LayerNorm}
"""Norms by their name in settings."""


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Positions [place] -> [place, width]: cosines, then sines (1706.03762, section 3.5, in the
    order of audiocraft and transformers)."""
    half = width // 2
    steps = torch.arange(half, device=places.device, dtype=torch.float32) / (half - 1)
    angles = places.float()[:, None] * torch.exp(-math.log(ROTARY_BASE) * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@dataclass(frozen=True, kw_only=True)
class TrunkShape:
    """Sizes and kinds of a trunk's parts. `ValueError` where they do not go together."""

    width: int
    layers: int
    heads: int
    hidden_width: int
    """Width inside the feed-forward parts."""
    condition_width: int = 0
    """Width of the vectors that scale and shift every block; 0 for none."""
    norm: str = "rms"
    """"rms" or "layer"."""
    feed_forward: str = "swiglu"
    """"swiglu" or "gelu"."""
    positions: str = "rotary"
    """"rotary", or "sinusoidal": added once to what enters."""
    text: bool = False
    """Whether every block attends to a text."""

    def __post_init__(self) -> None:
        for name, known in (
            ("norm", tuple(NORMS)),
            ("feed_forward", ("swiglu", "gelu")),
            ("positions", ("rotary", "sinusoidal")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f'no {name} "{getattr(self, name)}": known are {", ".join(known)}')
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(
                f"{self.heads} heads do not share a width of {self.width}: each needs an even part"
            )


class Attention(nn.Module):
    """Multi-head self-attention, causal or not, with rotary positions or none."""

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
        return rotate(query, *angles), rotate(key, *angles), value

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
        """Whole sequences. `mask`: true where frame (row) may look at frame (column)."""
        query, key, value = self._split(hidden, angles)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal and mask is None
        )
        return self._merge(mixed)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A batch of texts as blocks attend to them."""

    states: Tensor
    """float [batch, token, width]."""
    lengths: Tensor
    """int64 [batch]: how many of the tokens count; 0 where nothing is told."""

    @property
    def present(self) -> Tensor:
        """bool [batch, token]."""
        places = torch.arange(self.states.shape[1], device=self.states.device)
        return places < self.lengths[:, None]


class CrossAttention(nn.Module):
    """Multi-head attention to the states of a text."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Linear(width, width, bias=False)
        self.kv_proj = Linear(width, 2 * width, bias=False)
        self.out_proj = Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """hidden [batch, frame, width], text [batch, token, width], present [batch, token] ->
        [batch, frame, width]; zeros where nothing of the text is present."""
        query = self.q_proj(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        told = self.kv_proj(text).unflatten(-1, (2, self.heads, -1))
        key, value = told.permute(2, 0, 3, 1, 4)
        # A text of no token at all attends to its first place, and what it hears is taken off.
        some = present.any(dim=1)[:, None, None]
        mask = present | ~some[:, 0]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return self.out_proj(mixed.transpose(1, 2).flatten(2) * some)


class Block(nn.Module):
    """Attention, to a text too, and a feed-forward part, each behind a norm; those of the first and
    the last may be scaled and shifted by a condition."""

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
        """condition [batch, 1 or frame, width] -> scale and shift of both norms."""
        if self.modulate is None or condition is None:
            return None
        return self.modulate(condition).chunk(4, dim=-1)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """The feed-forward part."""
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
        """Whole sequences [batch, frame, width]."""
        normed = modulated(self.attention_norm(hidden), modulation, 0)
        mixed = self.attention(normed, angles, mask, causal)
        hidden = hidden + F.dropout(mixed, dropout, self.training)
        if text is not None:
            mixed = self.cross_attention(
                self.cross_attention_norm(hidden), text.states, text.present
            )
            hidden = hidden + F.dropout(mixed, dropout, self.training)
        mixed = self.feed_forward(modulated(self.feed_forward_norm(hidden), modulation, 2))
        return hidden + F.dropout(mixed, dropout, self.training)


def modulated(hidden: Tensor, modulation: tuple[Tensor, ...] | None, first: int) -> Tensor:
    """Scaled and shifted by entries `first` and `first + 1` of a modulation, if there is one."""
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
        norm: str = "rms",
        feed_forward: str = "swiglu",
        positions: str = "rotary",
        text: bool = False,
    ) -> None:
        """`expansion`: width inside the feed-forward parts over `width`, rounded to 32."""
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
            outs = [layer.attention.out_proj, layer.down_proj]
            for out in outs + ([layer.cross_attention.out_proj] if text else []):
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
        text: Text | None = None,
        mask: Tensor | None = None,
        causal: bool = True,
        dropout: float = 0.0,
        keep: int | None = None,
        angles: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """[batch, frame, width] -> (normed output, hidden state after layer `keep` or None).

        `text`: what a trunk with text attends to. `angles`: rotary angles of every frame; those of
        its place in the sequence by default.
        """
        places = torch.arange(hidden.shape[1], device=hidden.device)
        if self.shape.positions == "sinusoidal":
            hidden = hidden + sinusoids(places, self.width)
        elif angles is None:
            angles = rotary_angles(places, self.width // self.heads)
        kept = None
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
                kept = hidden
        return self.norm(hidden), kept

    def modulations(self, condition: Tensor | None) -> list[tuple[Tensor, ...] | None]:
        """What the condition says to every layer: computed once, used at every step."""
        return [layer.modulation(condition) for layer in self.blocks]


def window_mask(frames: int, window_frames: int, device: torch.device) -> Tensor | None:
    """Causal mask [frame, frame] that looks back over `window_frames`; None where all fits."""
    if frames <= window_frames:
        return None
    row = torch.arange(frames, device=device)
    back = row[:, None] - row[None, :]
    return (back >= 0) & (back < window_frames)
