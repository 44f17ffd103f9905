"""`melisma generate --stream`: sound is written while its tokens are drawn.

To a file: beside its place grows `NAME.part.wav`, which is whole at any time, so that a player may
open it; when all is drawn it becomes the file, in whatever format was asked for. To a pipe: WAV of
unknown length on standard output. What is streamed is kept below full scale but is not mastered,
which needs to know the whole piece.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from melisma.cli.output_paths import PIPE
from melisma.cli.progress import progress_bar
from melisma.cli.sounds import AudioRequest, drawn_facts, given_of, open_composer
from melisma.values import Waveform

if TYPE_CHECKING:
    from melisma.files import Provenance
    from melisma.generation import SoundComposer


def check_stream(order: AudioRequest, engine: str) -> None:
    """`ValueError` where what was asked for needs the whole piece, or more than one."""
    if len(order.prompts) != 1:
        raise ValueError("--stream writes one piece: give one prompt and no --count")
    if engine != "sound":
        raise ValueError("--stream writes drawn sound: leave out --engine")
    wants = {
        "--best-of": order.best_of not in (None, 1),
        "--rank": order.rank != "words",
        "--receipt": order.receipt,
        "--original": order.original,
        "--plot": order.pictures != [None],
    }
    if named := [name for name, wanted in wants.items() if wanted]:
        raise ValueError(f"--stream cannot wait for the whole piece: leave out {', '.join(named)}")
    if order.places == [PIPE] and sys.stdout.isatty():
        raise ValueError(
            "--output - writes sound to standard output: send it to a player, e.g. | ffplay -i -"
        )


def run_stream(order: AudioRequest, *, quiet: bool) -> dict[str, object]:
    """Draws and writes the piece; returns its receipt."""
    from melisma.files import write_audio
    from melisma.generation.requests.provenance import provenance_of

    composer = open_composer(order)
    (prompt,), (place,) = order.prompts, order.places
    settings = composer.drawing(order.drawing)
    facts = drawn_facts(order, prompt, settings) | {"stream": True}
    provenance = provenance_of(composer, prompt.words, order.seed, facts)
    started, first = time.monotonic(), None
    blocks: list[np.ndarray] = []
    given = given_of(order)
    total = prompt.duration_seconds
    total += 0.0 if given.beginning is None else given.beginning.seconds
    with (
        progress_bar("composing", quiet=quiet) as progress,
        _opened(place) as file,
    ):
        drawn = composer.stream(prompt, seed=order.seed, settings=settings, given=given)
        try:
            for block in _written(composer, drawn, file, provenance, pipe=place == PIPE):
                first = first or time.monotonic() - started
                blocks.append(block.samples)
                progress(sum(b.shape[1] for b in blocks) / composer.rate_hz / total)
        except BrokenPipeError:
            _leave_pipe()
            heard = sum(b.shape[1] for b in blocks) / composer.rate_hz
            raise ValueError(
                f"the listener went away after {heard:.1f} s: nothing more was drawn"
            ) from None
    sound = Waveform(samples=np.concatenate(blocks, axis=1), rate_hz=composer.rate_hz)
    if place != PIPE:
        write_audio(place, sound, provenance)
    return {
        "path": str(place),
        "prompt": prompt.words,
        "seed": order.seed,
        "seconds": round(sound.seconds, 3),
        "rate_hz": sound.rate_hz,
        "first_sound_seconds": None if first is None else round(first, 3),
        "conditions": {},
        "model": composer.name,
        "fingerprint": composer.fingerprint,
        "licence": composer.licence,
        "ai_generated": True,
        "settings": facts,
    }


def _written(
    composer: SoundComposer,
    drawn: Iterator[Waveform],
    file: BinaryIO,
    provenance: Provenance,
    *,
    pipe: bool,
) -> Iterator[Waveform]:
    """Every block, limited, after it is written."""
    from melisma.files.wav_stream import WavStream
    from melisma.sound.limiter import StreamLimiter

    wav = limiter = state = None
    for block in drawn:
        if wav is None or limiter is None or state is None:
            channels = block.samples.shape[0]
            limiter = StreamLimiter(composer.rate_hz, channels)
            state = limiter.initial_state()
            wav = WavStream(
                file,
                rate_hz=composer.rate_hz,
                channels=channels,
                provenance=provenance,
                rewinds=not pipe,
            )
        sound, state = limiter.step(block, state)
        wav.write(sound)
        yield sound
    assert wav is not None
    assert limiter is not None
    assert state is not None
    sound = limiter.finish(state)
    wav.write(sound)
    yield sound


@contextlib.contextmanager
def _opened(place: Path) -> Iterator[BinaryIO]:
    """Standard output, or a growing file beside the place, which goes away in the end."""
    if place == PIPE:
        yield sys.stdout.buffer
        return
    growing = place.with_name(f"{place.stem}.part.wav")
    try:
        with growing.open("w+b") as file:
            yield file
    finally:
        growing.unlink(missing_ok=True)


def _leave_pipe() -> None:
    """Nothing more goes to a pipe without a reader, not even when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
