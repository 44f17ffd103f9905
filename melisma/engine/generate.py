"""Sampling of token grids: step after step by an engine, or level after level in one pass each.

Each piece of a batch has its own random generator, so it comes out the same whatever else is in the
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from melisma.engine.cpu import Decoding, Engine, requests_of
from melisma.engine.limits import NOISE_STEPS
from melisma.engine.sampling import Noise, StageSampling, sample_next_token
from melisma.lm.conditioning import Conditioning
from melisma.lm.model import TokenModel
from melisma.lm.patterns import Pattern
from melisma.values.errors import MelismaError

BLOCK_STEPS = 32
"""Steps that are sampled before progress is reported or sampling can be stopped (chosen: under half
a second with a model that keeps up with the music)."""


@torch.inference_mode()
def sample_stream(
    engine: Engine,
    conditions: Conditioning,
    frames: int | Sequence[int],
    sampling: StageSampling,
    generators: Sequence[torch.Generator],
    *,
    prefix: Tensor | None = None,
    first_steps: int = BLOCK_STEPS,
    block_steps: int = BLOCK_STEPS,
) -> Iterator[Grid]:
    """Samples the grids of a causal stage, and yields after every block of steps.

    Attention looks back over the model's window, so any length goes in one pass.

    Args:
        engine: The stage.
        conditions: Of every piece.
        frames: Of all pieces, or of each: a piece that is done leaves the batch.
        sampling: How tokens are sampled.
        generators: One for each piece; unused at temperature 0.
        prefix: Tokens int64 [batch, level, frame] that every piece begins with (a continuation).
        first_steps: Steps of the first block.
        block_steps: Steps of every other block.

    Yields:
        The grid so far. When the caller stops iterating, sampling stops.

    Raises:
        MelismaError: A piece is shorter than its prefix.
    """
    model, pattern, batch = engine.model, engine.model.pattern, len(conditions)
    lengths = [frames] * batch if isinstance(frames, int) else list(frames)
    requests = requests_of(engine, conditions, lengths, sampling, prefix)
    decoding = engine.open(requests)
    ends = [pattern.steps(length) for length in lengths]
    noise = None
    if sampling.temperature > 0:
        noise = Noise(generators, pattern.levels, model.settings.vocabulary)
    step, size = requests.known * pattern.stride, first_steps
    fresh = -1
    while step < max(ends):
        going = [request for request, end in enumerate(ends) if end > step]
        decoding.keep(going)
        chunk = step // NOISE_STEPS
        if noise is not None and chunk > fresh:
            # Noise advances through the prefix, too, so that a seed means the same after any
            # prefix.
            decoding.set_noise(noise.chunk(chunk))
            fresh = chunk
        stop = min(step + size, (chunk + 1) * NOISE_STEPS, *(ends[request] for request in going))
        decoding.advance(stop - step)
        step, size = stop, block_steps
        done = max(0, (step - 1 - pattern.offsets[-1]) // pattern.stride + 1)
        yield Grid(decoding, pattern, lengths, step=step, steps=max(ends), done=done)


@dataclass(frozen=True)
class Grid:
    """A token grid that is being sampled."""

    _decoding: Decoding
    _pattern: Pattern
    _lengths: Sequence[int]
    _: KW_ONLY
    step: int
    """Steps that are done."""
    steps: int
    """Steps in all."""
    done: int
    """Frames from the beginning on whose levels are all sampled (in pieces that are this long)."""

    def tokens(self, first: int = 0) -> Tensor:
        """Frames that are done from `first` on, int64 [batch, level, frame]; a piece that ended
        before repeats its last frame."""
        frames = max(min(self.done, max(self._lengths)), 1)
        grid = self._decoding.grid()
        whole = self._pattern.undo(grid[:, :, : self._pattern.steps(frames)], frames)
        frame_numbers = torch.arange(first, frames, device=grid.device, dtype=torch.long)
        ends = torch.tensor(self._lengths, device=grid.device, dtype=torch.long)[:, None] - 1
        index = torch.minimum(frame_numbers, ends)[:, None].expand(-1, whole.shape[1], -1)
        return whole.gather(2, index)


def sample(
    engine: Engine,
    conditions: Conditioning,
    frames: int | Sequence[int],
    sampling: StageSampling,
    generators: Sequence[torch.Generator],
    *,
    prefix: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Samples the grids of a causal stage to their end.

    Args:
        engine: As for `sample_stream`, like the arguments that follow.
        conditions: As for `sample_stream`.
        frames: As for `sample_stream`.
        sampling: As for `sample_stream`.
        generators: As for `sample_stream`.
        prefix: As for `sample_stream`.
        progress: Called with the number of steps done.

    Returns:
        int64 [batch, level, frame]; shorter pieces are filled up with their last frames.
    """
    grid = None
    for grid in sample_stream(engine, conditions, frames, sampling, generators, prefix=prefix):
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
    sampling: StageSampling,
    generators: Sequence[torch.Generator],
    *,
    overlap_frames: int = 25,
) -> Tensor:
    """Samples the levels of a non-causal stage, one pass for each.

    Windows of the model's length overlap, so that every frame has context on both sides.

    Args:
        model: The stage.
        grid: int64 [batch, given level, frame].
        conditions: Of every piece.
        sampling: How tokens are sampled.
        generators: One for each piece.
        overlap_frames: By how much windows overlap on each side.

    Returns:
        int64 [batch, level, frame], all levels.

    Raises:
        MelismaError: Another number of levels is given than the stage reads.
    """
    settings = model.settings
    batch, given, frames = grid.shape
    if given != settings.first_sampled_level:
        raise MelismaError(
            f"this stage is given {settings.first_sampled_level} levels, not {given}"
        )
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
                [
                    torch.empty(logits.shape[1:], dtype=torch.float32, device="cpu").exponential_(
                        generator=g
                    )
                    for g in generators
                ]
            )
            first = 0 if start == 0 else overlap_frames
            full[:, level, start + first : stop] = sample_next_token(logits, noise, sampling)[
                :, first:
            ]
            if stop == frames:
                break
            start += hop
    return full
