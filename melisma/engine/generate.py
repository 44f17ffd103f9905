"""Drawing tokens: step after step by an engine, or level after level in one pass each.

Each piece of a batch has a generator of its own, so a piece comes out the same whatever its
neighbours are asked for, and however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from melisma.engine.cpu import Decoding, Engine, requests_of
from melisma.engine.sampling import NOISE_STEPS, Noise, SamplingParams, sample_next_token
from melisma.lm.conditioning import Conditioning
from melisma.lm.model import TokenModel
from melisma.lm.patterns import Pattern

BLOCK_STEPS = 32
"""Steps that are drawn before anybody hears of them or may stop them (chosen: under half a second
with a model that keeps up with the music)."""


@torch.inference_mode()
def sample_stream(
    engine: Engine,
    conditions: Conditioning,
    frames: int | Sequence[int],
    drawing: SamplingParams,
    generators: Sequence[torch.Generator],
    *,
    prefix: Tensor | None = None,
    first_steps: int = BLOCK_STEPS,
    block_steps: int = BLOCK_STEPS,
) -> Iterator[Grid]:
    """Draws grids of a causal stage, and shows after every block of steps how far they are.

    `frames`: of all pieces, or of each by itself: a piece that is done leaves the batch. `prefix`:
    tokens [batch, level, frame] that every piece begins with (a continuation); they are kept as
    they are. The likeliest tokens (temperature 0) need no noise, and no generator is used.
    Attention looks back over the model's window, so any length goes in one pass. `first_steps`:
    steps of the first block, `block_steps` those of the others. Whoever stops listening stops the
    drawing. `ValueError` where lengths do not go together.
    """
    model, pattern, batch = engine.model, engine.model.pattern, len(conditions)
    lengths = [frames] * batch if isinstance(frames, int) else list(frames)
    requests = requests_of(engine, conditions, lengths, drawing, prefix)
    session = engine.open(requests)
    ends = [pattern.steps(length) for length in lengths]
    noise = None
    if drawing.temperature > 0:
        noise = Noise(generators, pattern.levels, model.settings.vocabulary)
    step, size = requests.known * pattern.stride, first_steps
    fresh = -1
    while step < max(ends):
        going = [request for request, end in enumerate(ends) if end > step]
        session.keep(going)
        chunk = step // NOISE_STEPS
        if noise is not None and chunk > fresh:
            # Noise goes on through steps that are given, so that a seed means the same after any.
            session.set_noise(noise.chunk(chunk))
            fresh = chunk
        stop = min(step + size, (chunk + 1) * NOISE_STEPS, *(ends[request] for request in going))
        session.advance(stop - step)
        step, size = stop, block_steps
        done = max(0, (step - 1 - pattern.offsets[-1]) // pattern.stride + 1)
        yield Grid(session, pattern, lengths, step=step, steps=max(ends), done=done)


@dataclass(frozen=True)
class Grid:
    """How far a drawing is."""

    _session: Decoding
    _pattern: Pattern
    _lengths: Sequence[int]
    _: KW_ONLY
    step: int
    """Steps that are done."""
    steps: int
    """Steps in all."""
    done: int
    """Frames from the beginning on whose levels are all drawn (in pieces that are so long)."""

    def tokens(self, first: int = 0) -> Tensor:
        """Frames that are done from `first` on, int64 [batch, level, frame]; a piece that ended
        before repeats its last frame."""
        frames = max(min(self.done, max(self._lengths)), 1)
        grid = self._session.grid()
        whole = self._pattern.undo(grid[:, :, : self._pattern.steps(frames)], frames)
        places = torch.arange(first, frames, device=grid.device)
        ends = torch.tensor(self._lengths, device=grid.device)[:, None] - 1
        index = torch.minimum(places, ends)[:, None].expand(-1, whole.shape[1], -1)
        return whole.gather(2, index)


def sample(
    engine: Engine,
    conditions: Conditioning,
    frames: int | Sequence[int],
    drawing: SamplingParams,
    generators: Sequence[torch.Generator],
    *,
    prefix: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Draws grids int64 [batch, level, frame] of a causal stage to their end, as `stream` does.

    Pieces of different lengths are filled up with their last frames. `progress` hears the number of
    steps done.
    """
    grid = None
    for grid in sample_stream(engine, conditions, frames, drawing, generators, prefix=prefix):
        if progress is not None:
            progress(grid.step)
    if grid is None:  # everything was given
        assert prefix is not None
        return prefix
    return grid.tokens().clone()


@torch.inference_mode()
def sample_parallel(
    model: TokenModel,
    grid: Tensor,
    conditions: Conditioning,
    drawing: SamplingParams,
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
    if given != settings.first_sampled_level:
        raise ValueError(f"this stage is given {settings.first_sampled_level} levels, not {given}")
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
            full[:, level, start + first : stop] = sample_next_token(logits, noise, drawing)[
                :, first:
            ]
            if stop == frames:
                break
            start += hop
    return full
