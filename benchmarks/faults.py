"""Faults in single pieces: held-out renders, their round trip through the codec, and a folder of
generated sound. The second gives the limits of `melisma/analysis/artefacts/summary.py`.

Run: `python benchmarks/faults.py --held CLIPS [--made FOLDER] [--count 220]`. Each row is the share
of pieces above the limit; the details are the quantiles of the number.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from held_clips import command_line, one_clip_per_piece, parser_of, report

from melisma.analysis.artefacts.summary import FAULT_LIMITS, measure_faults
from melisma.data.audio_shards import read_audio_shards
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.files import AUDIO_ENDINGS, read_audio
from melisma.generation.loading import load_codec
from melisma.recipes.judges import COARSE_LEVELS
from melisma.train.judge import clip_waveform
from melisma.values import Waveform

FAULT_SHARES = (0.5, 0.9, 0.99)
"""Quantiles that are reported of each number; the last is its limit where the sound is clean."""


def figures_of(what: str, sounds: Iterable[Waveform]) -> list[Figure]:
    """Share of pieces above each limit, with quantiles of each number."""
    found = [measure_faults(sound) for sound in sounds]
    numbers = [one.numbers() for one in found]
    figures: list[Figure] = []
    for name, limit in FAULT_LIMITS.items():
        measured = [each[name] for each in numbers]
        values = np.array([value for value in measured if value is not None])
        if not len(values):
            continue
        details: dict[str, float | str] = {"limit": limit}
        for share, value in zip(FAULT_SHARES, np.quantile(values, FAULT_SHARES), strict=True):
            details[f"quantile_{round(100 * share)}"] = round(float(value), 4)
        figures.append(
            figure_of(
                f"{name} above the limit, {what}", mean_interval(values > limit),
                command=command_line(), details=details,
            )
        )  # fmt: skip
    clean = np.array([not one.found() for one in found])
    figures.append(
        figure_of(f"no fault found, {what}", mean_interval(clean), command=command_line())
    )
    return figures


def main() -> None:
    """Measures and reports."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--made", type=Path, help="folder of generated sound")
    parser.add_argument("--count", type=int, default=220, help="clips, one per work")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shards = read_audio_shards(given.held)
    clips = one_clip_per_piece(shards, given.count)
    sounds = [clip_waveform(shards, clip) for clip in clips]
    figures = figures_of("held-out renders", sounds)
    codec = load_codec(given.model)
    with torch.inference_mode():
        trips = [codec.decode(codec.encode(sound, COARSE_LEVELS)) for sound in sounds]
    figures += figures_of("codec's round trip", trips)
    if given.made is not None:
        paths = sorted(p for p in given.made.iterdir() if p.suffix.lower() in AUDIO_ENDINGS)
        if not paths:
            parser.error(
                f"{given.made} holds no sound: give a folder with WAV, FLAC, OGG or MP3 files"
            )
        figures += figures_of("generated", [read_audio(path) for path in paths])
    report(figures, given.results / "faults.json")


if __name__ == "__main__":
    main()
