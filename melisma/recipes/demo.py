"""Files to try every command with: a corpus of MIDI files, a hummed tune, and prompts.

The pieces are composed by the score model and the tune is synthesized, so that nothing has to be
downloaded, and everything may be used freely. The corpus is large enough for each split to have
pieces, and far too small to train a model that is worth hearing.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from melisma.data.sources.pieces import METADATA_NAME
from melisma.data.sources.splits import hashed_split
from melisma.files import write_audio, write_bytes
from melisma.generation.score.pipeline import ScorePipeline
from melisma.symbolic import write_midi
from melisma.values import Waveform
from melisma.values.score_prompt import ScorePrompt
from melisma.values.tokens import SAMPLE_RATE_HZ

CORPUS_NAME = "demo"
PROMPTS = (
    "a gentle waltz for piano",
    "a brisk march for brass and drums",
    "a slow hymn for organ",
    "a lively folk dance for flute and guitar",
    "a sad song for cello and piano",
    "a rock groove with electric guitar, bass and drums",
)
"""The prompts of the list; the corpus is composed to them in turn."""
STYLES = ("classical", "march", "church", "folk", "song", "rock")
"""What `metadata.csv` says of each prompt's pieces."""
BARS = 16
FEWEST_PIECES = 16
"""With fewer a split might be empty (see `data/sources/splits.py`)."""
HUM = ((64, 1), (64, 1), (65, 1), (67, 1), (67, 1), (65, 1), (64, 1), (62, 1), (60, 1), (60, 1),
       (62, 1), (64, 1), (64, 1.5), (62, 0.5), (62, 2))  # fmt: skip
"""MIDI pitch and quarter notes of the tune (Beethoven, Ninth Symphony, 1824)."""
HUM_BPM = 110.0
_FORMANTS = ((250.0, 70.0, 1.0), (1_100.0, 200.0, 0.06), (2_200.0, 300.0, 0.03))
"""Centre and width in Hz and gain of the formants of /m/ (Fant, 1960)."""


def check_demo(folder: Path) -> None:
    """Checks that nothing would be replaced in a folder.

    Raises:
        FileExistsError: The demo's files, or files of their names, exist.
        NotADirectoryError: It is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the name of a folder")
    for path in _places(folder):
        if path.exists():
            raise FileExistsError(f"{path} exists: remove it, or give another folder")


def _places(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "corpora" / CORPUS_NAME, folder / "hum.wav", folder / "prompts.txt"


def write_demo(
    folder: Path,
    composer: ScorePipeline,
    pieces: int = 48,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes `corpora/demo`, `hum.wav` and `prompts.txt` into a folder.

    Args:
        folder: Where to write; made if missing.
        composer: Composes the pieces of the corpus.
        pieces: Number of pieces.
        seed: Seed of the first piece.
        progress: Called with the number of finished pieces and of all.

    Returns:
        What was written: the folder of corpora, the tune, and the list.
    """
    corpus, hum, prompts = _places(folder)
    corpus.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    for number in range(pieces):
        kind = number % len(PROMPTS)
        name = _name(number, pieces)
        prompt = ScorePrompt(words=PROMPTS[kind], bars=BARS)
        (piece,) = composer.generate_pieces(prompt, seed=seed + number, best_of=1)
        write_bytes(corpus / name, write_midi(piece.score))
        rows.append(
            {
                "file": name,
                "group": name,
                "title": f"Demonstration {number + 1}",
                "style": STYLES[kind],
                "licence": "no rights claimed",
                "source_repo": f"composed by {composer.name}, seed {seed + number}",
                "attribution": "",
            }
        )
        if progress is not None:
            progress(number + 1, pieces)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(corpus / METADATA_NAME, table.getvalue().encode("utf-8"))
    write_audio(hum, hummed(HUM, HUM_BPM), None)
    write_bytes(prompts, "".join(f"{line}\n" for line in PROMPTS[:2]).encode("utf-8"))
    return [corpus.parent, hum, prompts]


def _name(number: int, pieces: int) -> str:
    """A file name that puts the piece into the split that it is wanted in.

    Splits are made from hashes of names; of a few pieces, some split would often be empty. Every
    eighth piece is to be held out, and the one after it is the judge's.
    """
    wanted = {0: "held", 1: "judge"}.get(number % 8, "train")
    digits = len(str(pieces))
    names = (f"{number + 1:0{digits}}-{take}.mid" for take in itertools.count(1))
    return next(name for name in names if hashed_split(f"{CORPUS_NAME}/{name}") == wanted)


def hummed(tune: tuple[tuple[float, float], ...], bpm: float) -> Waveform:
    """A synthetic voice that hums a tune: harmonics under the formants of /m/, with vibrato.

    Args:
        tune: MIDI pitch and quarter notes of each note.
        bpm: Quarter notes per minute.

    Returns:
        Mono at 24 kHz.
    """
    counts = [round(quarters * 60 / bpm * SAMPLE_RATE_HZ) for _, quarters in tune]
    pitch = np.repeat([float(pitch) for pitch, _ in tune], counts) - 12.0
    glide = round(0.04 * SAMPLE_RATE_HZ)
    pitch = lfilter(np.full(glide, 1 / glide), [1.0], pitch - pitch[0]) + pitch[0]
    time = np.arange(len(pitch)) / SAMPLE_RATE_HZ
    pitch = pitch + 0.15 * np.sin(2 * np.pi * 5.3 * time)
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((pitch - 69) / 12)) / SAMPLE_RATE_HZ
    source = sum((np.sin(k * phase) / k for k in range(1, 25)), np.zeros(len(phase)))
    voice = np.zeros(len(phase))
    for centre, width, gain in _FORMANTS:
        radius = np.exp(-np.pi * width / SAMPLE_RATE_HZ)
        angle = 2 * np.pi * centre / SAMPLE_RATE_HZ
        resonance = [1.0, -2 * radius * np.cos(angle), radius**2]
        voice += gain * (1 - radius) * lfilter([1.0], resonance, source)
    attack = np.concatenate([np.minimum(1.0, np.arange(n) / (0.06 * SAMPLE_RATE_HZ)) *
                             np.minimum(1.0, np.arange(n)[::-1] / (0.05 * SAMPLE_RATE_HZ))
                             for n in counts])  # fmt: skip
    sound = voice * attack
    return Waveform(
        samples=(0.5 * sound / np.abs(sound).max())[None].astype(np.float32),
        rate_hz=SAMPLE_RATE_HZ,
    )
