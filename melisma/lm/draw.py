"""Drawing tokens: step after step with a key-value cache, or level after level in one pass each.

Each piece of a batch has a generator of its own, so a piece comes out the same whatever its
neighbours are asked for (with the same batch size and thread count, down to the last bit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melisma.lm.conditions import Conditions
from melisma.lm.model import TokenModel

NOISE_STEPS = 128
"""Steps for which noise is drawn at once."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How tokens are drawn."""

    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int | None = None
    """Only so many most likely tokens may be drawn; None: all."""
    top_p: float | None = None
    """Only the most likely tokens that together hold this much probability may be drawn (nucleus:
    1904.09751, section 3.1); None: all."""
    guidance: float = 1.0
    """Classifier-free guidance (2207.12598, section 3.2): 1 is none; logits are moved from those
    of nothing told by this factor."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"a temperature lies between 0 and 10, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top-k is at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top-p lies above 0 and up to 1, not {self.top_p}")
        if not 0 <= self.guidance <= 20:
            raise ValueError(f"guidance lies between 0 and 20, not {self.guidance}")


class Noise:
    """Exponential noise for the Gumbel trick, from one generator a piece, in chunks of steps."""

    def __init__(self, generators: Sequence[torch.Generator], levels: int, vocabulary: int) -> None:
        self._generators = generators
        self._shape = (NOISE_STEPS, levels, vocabulary)
        self._chunk = torch.empty(0)
        self._used = NOISE_STEPS

    def next(self) -> Tensor:
        """Noise [batch, level, vocabulary] of the next step."""
        if self._used == NOISE_STEPS:
            rows = [torch.empty(self._shape).exponential_(generator=g) for g in self._generators]
            self._chunk = torch.stack(rows)
            self._used = 0
        self._used += 1
        return self._chunk[:, self._used - 1]


def choose(logits: Tensor, noise: Tensor | None, drawing: Drawing) -> Tensor:
    """Draws from logits [..., vocabulary] with exponential noise of the same shape -> [...];
    without noise the likeliest tokens."""
    if noise is None or drawing.temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits.float() / drawing.temperature
    if drawing.top_k is not None and drawing.top_k < scaled.shape[-1]:
        least = scaled.topk(drawing.top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    shares = scaled.softmax(dim=-1)
    if drawing.top_p is not None and drawing.top_p < 1:
        ordered, order = shares.sort(dim=-1, descending=True)
        # A token stays as long as those likelier than it leave something of the nucleus.
        beyond = ordered.cumsum(dim=-1) - ordered >= drawing.top_p
        shares = shares.masked_fill(beyond.gather(-1, order.argsort(dim=-1)), 0.0)
    # The maximum of p / e, e exponential, is a draw from p (the Gumbel trick without logarithms).
    return (shares / noise.to(scaled.device).clamp(min=1e-20)).argmax(dim=-1)


@torch.inference_mode()
def draw(
    model: TokenModel,
    conditions: Conditions,
    frames: int,
    drawing: Drawing,
    generators: Sequence[torch.Generator],
    *,
    prefix: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Draws a grid [batch, level, frame] of a causal stage.

    `prefix`: tokens [batch, level, frame] that the piece begins with (a continuation); they are
    kept as they are. The likeliest tokens (temperature 0) need no noise, and no generator is used.
    `progress` hears the number of steps done. Attention looks back over the model's window, so any
    length goes in one pass.
    """
    batch, pattern, blank = len(conditions), model.pattern, model.blank
    guided = drawing.guidance != 1.0
    asked = conditions.joined(conditions.untold()) if guided else conditions
    told = model.conditioner(asked)
    modulations = model.trunk.modulations(told.whole)
    cache = model.initial_cache(len(asked))
    greedy = drawing.temperature == 0
    noise = None if greedy else Noise(generators, pattern.levels, model.settings.vocabulary)
    steps = pattern.steps(frames)
    device = told.frames.device
    out = torch.full((batch, pattern.levels, steps), blank, dtype=torch.long, device=device)
    known = 0
    if prefix is not None:
        known = prefix.shape[2]
        if known > frames:
            raise ValueError(f"a piece of {frames} frames cannot begin with {known} frames")
        spread = pattern.spread(prefix, blank)
        out[:, :, : spread.shape[2]] = spread
    heads = torch.stack(list(model.heads.parameters()))
    before = torch.full((batch, pattern.levels), blank, dtype=torch.long, device=device)
    for step in range(steps):
        frame = min(pattern.newest_frame(step), frames - 1)
        twice = before.repeat(2, 1) if guided else before
        hidden = model.step(twice, told.frames[:, frame], modulations, cache, step)
        places = [pattern.frame_at(step, level) for level in range(pattern.levels)]
        wanted = [place is not None and known <= place < frames for place in places]
        # Noise goes on through steps that are given, so that a seed means the same after any.
        chance = noise.next() if noise is not None else None
        if any(wanted):
            logits = torch.einsum("bw,lvw->blv", hidden, heads)
            if guided:
                with_words, without = logits.chunk(2)
                logits = without + drawing.guidance * (with_words - without)
            drawn = choose(logits, chance, drawing)
            for level in range(pattern.levels):
                if wanted[level]:
                    out[:, level, step] = drawn[:, level]
        before = out[:, :, step]
        if progress is not None:
            progress(step + 1)
    return pattern.gather(out, frames)


@torch.inference_mode()
def draw_parallel(
    model: TokenModel,
    grid: Tensor,
    conditions: Conditions,
    drawing: Drawing,
    generators: Sequence[torch.Generator],
    *,
    overlap_frames: int = 25,
) -> Tensor:
    """Fills the levels that a non-causal stage draws: [batch, given levels, frame] -> all levels.

    One pass a level, in windows of the model's length that overlap, so that every frame is drawn
    with context on both sides.
    """
    settings = model.settings
    batch, given, frames = grid.shape
    if given != settings.drawn_from:
        raise ValueError(f"this stage is given {settings.drawn_from} levels, not {given}")
    full = torch.zeros(batch, settings.levels, frames, dtype=torch.long, device=grid.device)
    full[:, :given] = grid
    window = settings.window_frames
    overlap_frames = min(overlap_frames, window // 4)
    hop = max(window - 2 * overlap_frames, 1)
    for level in range(given, settings.levels):
        start = 0
        while True:
            stop = min(start + window, frames)
            part = conditions.frames(start, stop)
            logits = model.fill(full[:, :, start:stop], level, part)
            noise = torch.stack(
                [torch.empty(logits.shape[1:]).exponential_(generator=g) for g in generators]
            )
            first = 0 if start == 0 else overlap_frames
            full[:, level, start + first : stop] = choose(logits, noise, drawing)[:, first:]
            if stop == frames:
                break
            start += hop
    return full
