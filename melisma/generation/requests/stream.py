"""Streaming requests: sound is written while its tokens are sampled.

To a file: a temporary WAV file grows beside it, complete at any time, so that a player may open it;
in the end the file is written, in whatever format was requested. To a pipe or a device: WAV of
unknown length.
What is streamed is kept below full scale but not mastered, which needs the whole piece.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from melisma.files import Provenance
from melisma.files.atomic import check_writable, explained_errors, open_special, workplace
from melisma.files.audio import audio_ending
from melisma.files.audio.wav_stream import WavStream
from melisma.files.audio.writing import write_audio_blocks
from melisma.files.names import destination, free_path, is_special, replaced_paths
from melisma.files.temporary import temporary_file
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.pipeline import AudioPipeline, Progress
from melisma.generation.requests.audio import AudioRequest, audio_settings
from melisma.generation.requests.provenance import provenance_of
from melisma.sound.limiter import StreamLimiter
from melisma.sound.stored import StoredSound
from melisma.values import Waveform
from melisma.values.errors import MelismaError


class ListenerGoneError(MelismaError):
    """Whoever read the stream went away; nothing more was sampled."""


def run_stream(
    pipeline: AudioPipeline,
    request: AudioRequest,
    target: Path | BinaryIO,
    progress: Progress | None = None,
    growing: Callable[[Path], None] | None = None,
    *,
    replace: bool = True,
) -> dict[str, object]:
    """Runs a request for one piece and writes its sound while it is sampled.

    Args:
        pipeline: The model.
        request: With one prompt.
        target: A file, the name of a pipe or device, or an open pipe.
        progress: Called with the finished share, 0 to 1.
        growing: Called with the path of the file that grows, if one does.
        replace: Whether a file that exists is replaced; otherwise the name counts up.

    Returns:
        The row of the JSON receipt.

    Raises:
        ListenerGoneError: The pipe was closed.
        MelismaError: As the pipeline, or a pipe's name has the ending of another format than WAV.
        OSError: The sound could not be written.
    """
    (prompt,) = request.prompts
    pipe = not isinstance(target, Path) or is_special(target)
    if isinstance(target, Path) and pipe and audio_ending(target) != ".wav":
        raise MelismaError(f"{target.name} is a pipe, which carries WAV: end its name in .wav")
    settings = audio_settings(pipeline, request, prompt) | {"stream": True}
    provenance = provenance_of(pipeline, prompt.words, request.seed, settings)
    remarks = [] if request.context is None else list(request.context.remarks)
    understanding = pipeline.understand(prompt, seed=request.seed, context=request.context)
    with _opened(target, growing) as file:
        whole, first = _sampled(pipeline, request, file, provenance, progress, pipe=pipe)
    replaced = replaced_paths(target) if replace and not pipe else []
    if isinstance(target, Path) and not pipe:
        target = _write_file(target, whole, provenance, replace=replace)
    return {
        "path": str(target) if isinstance(target, Path) else "-",
        "replaced": replaced,
        "prompt": prompt.words,
        "seed": request.seed,
        "seconds": round(whole.seconds, 3),
        "rate_hz": whole.rate_hz,
        "first_sound_seconds": round(first, 3),
        "conditions": {},
        "remarks": remarks,
        **understanding.as_json(),
        "model": pipeline.name,
        "fingerprint": pipeline.fingerprint,
        "licence": pipeline.licence,
        "ai_generated": True,
        "settings": settings,
    }


def _sampled(
    pipeline: AudioPipeline,
    request: AudioRequest,
    file: BinaryIO,
    provenance: Provenance,
    progress: Progress | None,
    *,
    pipe: bool,
) -> tuple[StoredSound, float]:
    """Samples a piece and writes it into a file, block by block.

    Returns:
        The whole sound, and the seconds until its first block was written.
    """
    (prompt,) = request.prompts
    started, first = time.monotonic(), 0.0
    context = request.context or AudioConditions()
    total = prompt.duration_seconds + context.kept_seconds
    whole: StoredSound | None = None
    sound = pipeline.stream(
        prompt, seed=request.seed, sampling=request.sampling, context=request.context
    )
    try:
        if context.beginning is None:  # the seam limits what follows a recording
            sound = _limited(sound)
        for block in _written(sound, file, provenance, pipe=pipe):
            first = first or time.monotonic() - started
            whole = whole or _empty(block)
            whole.append(block.samples)
            if progress is not None:
                progress(min(whole.seconds / total, 1.0))
    except (BrokenPipeError, ConnectionResetError):
        played = 0.0 if whole is None else whole.seconds
        raise ListenerGoneError(
            f"the reader closed the stream after {played:.1f} s of sound: generation has stopped"
        ) from None
    assert whole is not None
    return whole, first


def _empty(block: Waveform) -> StoredSound:
    """Sound of length 0 with the rate and channels of a block."""
    return StoredSound(rate_hz=block.rate_hz, channels=block.samples.shape[0])


def _write_file(path: Path, sound: StoredSound, provenance: Provenance, *, replace: bool) -> Path:
    """Writes the finished file; returns its path, which counts up where it must not replace one
    that was made in the meantime."""
    while True:
        try:
            write_audio_blocks(
                path,
                sound.blocks(),
                rate_hz=sound.rate_hz,
                channels=sound.channels,
                provenance=provenance,
                replace=replace,
            )
        except FileExistsError:
            path = free_path(path)
        else:
            return path


def _limited(sound: Iterator[Waveform]) -> Iterator[Waveform]:
    """Every block, below full scale."""
    limiter = state = None
    for block in sound:
        if limiter is None or state is None:
            limiter = StreamLimiter(block.rate_hz, block.samples.shape[0])
            state = limiter.initial_state()
        limited, state = limiter.step(block, state)
        yield limited
    assert limiter is not None
    assert state is not None
    yield limiter.finish(state)


def _written(
    sound: Iterator[Waveform], file: BinaryIO, provenance: Provenance, *, pipe: bool
) -> Iterator[Waveform]:
    """Every block, after it is written."""
    wav = None
    for block in sound:
        wav = wav or WavStream(
            file,
            rate_hz=block.rate_hz,
            channels=block.samples.shape[0],
            provenance=provenance,
            rewinds=not pipe,
        )
        wav.write(block)
        yield block


@contextlib.contextmanager
def _opened(target: Path | BinaryIO, growing: Callable[[Path], None] | None) -> Generator[BinaryIO]:
    """The pipe, or a growing file beside the target, which goes away in the end."""
    if not isinstance(target, Path):
        yield target
        return
    check_writable(target)
    if is_special(target):
        with explained_errors(target):
            file = open_special(target)
            try:
                yield file
                file.close()
            finally:
                with contextlib.suppress(OSError):  # what a listener who left has not read
                    file.close()
        return
    place = destination(target)
    with (
        explained_errors(target),
        temporary_file(workplace(place), ".wav", place) as temporary,
        temporary.open() as file,
    ):
        if growing is not None:
            growing(temporary.path)
        yield file
