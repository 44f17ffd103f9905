"""Streaming requests: sound is written while its tokens are sampled.

To a file: `NAME.part.wav` grows beside it, complete at any time, so that a player may open it; in
the end it becomes the file, in whatever format was requested. To a pipe: WAV of unknown length.
What is streamed is kept below full scale but not mastered, which needs the whole piece.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from melisma.files import Provenance, write_audio
from melisma.files.wav_stream import WavStream
from melisma.generation.pipeline import AudioPipeline, Progress
from melisma.generation.requests.audio import AudioRequest, audio_settings
from melisma.generation.requests.provenance import provenance_of
from melisma.sound.limiter import StreamLimiter
from melisma.values import Waveform
from melisma.values.errors import MelismaError


class ListenerGoneError(MelismaError):
    """Whoever read the stream went away; nothing more was sampled."""


def run_stream(
    pipeline: AudioPipeline,
    request: AudioRequest,
    target: Path | BinaryIO,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Runs a request for one piece and writes its sound while it is sampled.

    Args:
        pipeline: The model.
        request: With one prompt.
        target: A file, or a pipe.
        progress: Called with the finished share, 0 to 1.

    Returns:
        The row of the JSON receipt.

    Raises:
        ListenerGoneError: The pipe was closed.
        MelismaError: As the pipeline.
    """
    (prompt,) = request.prompts
    settings = audio_settings(pipeline, request, prompt) | {"stream": True}
    provenance = provenance_of(pipeline, prompt.words, request.seed, settings)
    started, first = time.monotonic(), None
    blocks: list[np.ndarray] = []
    total = prompt.duration_seconds
    if request.context is not None and request.context.beginning is not None:
        total += request.context.beginning.seconds
    with _opened(target) as file:
        sound = pipeline.stream(
            prompt, seed=request.seed, sampling=request.sampling, context=request.context
        )
        pipe = not isinstance(target, Path)
        try:
            for block in _written(pipeline, sound, file, provenance, pipe=pipe):
                first = first or time.monotonic() - started
                blocks.append(block.samples)
                if progress is not None:
                    progress(sum(b.shape[1] for b in blocks) / pipeline.rate_hz / total)
        except BrokenPipeError:
            played = sum(b.shape[1] for b in blocks) / pipeline.rate_hz
            raise ListenerGoneError(
                f"the listener went away after {played:.1f} s: nothing more was sampled"
            ) from None
    whole = Waveform(samples=np.concatenate(blocks, axis=1), rate_hz=pipeline.rate_hz)
    if isinstance(target, Path):
        write_audio(target, whole, provenance)
    return {
        "path": str(target) if isinstance(target, Path) else "-",
        "prompt": prompt.words,
        "seed": request.seed,
        "seconds": round(whole.seconds, 3),
        "rate_hz": whole.rate_hz,
        "first_sound_seconds": None if first is None else round(first, 3),
        "conditions": {},
        "model": pipeline.name,
        "fingerprint": pipeline.fingerprint,
        "licence": pipeline.licence,
        "ai_generated": True,
        "settings": settings,
    }


def _written(
    pipeline: AudioPipeline,
    sound: Iterator[Waveform],
    file: BinaryIO,
    provenance: Provenance,
    *,
    pipe: bool,
) -> Iterator[Waveform]:
    """Every block, limited, after it is written."""
    wav = limiter = state = None
    for block in sound:
        if wav is None or limiter is None or state is None:
            channels = block.samples.shape[0]
            limiter = StreamLimiter(pipeline.rate_hz, channels)
            state = limiter.initial_state()
            wav = WavStream(
                file,
                rate_hz=pipeline.rate_hz,
                channels=channels,
                provenance=provenance,
                rewinds=not pipe,
            )
        limited, state = limiter.step(block, state)
        wav.write(limited)
        yield limited
    assert wav is not None
    assert limiter is not None
    assert state is not None
    rest = limiter.finish(state)
    wav.write(rest)
    yield rest


@contextlib.contextmanager
def _opened(target: Path | BinaryIO) -> Generator[BinaryIO]:
    """The pipe, or a growing file beside the target, which goes away in the end."""
    if not isinstance(target, Path):
        yield target
        return
    growing = target.with_name(f"{target.stem}.part.wav")
    try:
        with growing.open("w+b") as file:
            yield file
    finally:
        growing.unlink(missing_ok=True)
