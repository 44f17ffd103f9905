"""Tune extraction from hums, whistles and instruments, and false alarms on noises and drums.

Run: `python benchmarks/tunes.py [--count COUNT] [--seed SEED]`. Needs mir_eval (extra `test`) and a
soundfont. Pitch classes are compared at 25 frames a second, for hums up to a transposition by two
semitones: a voice may lie more than half a semitone beside concert pitch.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import mir_eval.melody
import numpy as np
from held_clips import RESULTS, command_line, report
from hums import (
    FORMANTS,
    RATE_HZ,
    TRUTH_RATE_HZ,
    Hum,
    VoiceSettings,
    breath,
    coloured_noise,
    drum_score,
    hum,
    random_tune,
    tune_score,
)

from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.melody import Tune, extract_tune, melody_frames
from melisma.symbolic.mixing.mixer import MixerSettings
from melisma.symbolic.render import RenderSettings, render_score
from melisma.values import Score, Waveform
from melisma.values.tokens import FRAME_RATE_HZ

SECONDS = 8.0
PROGRAMS = (0, 6, 11, 16, 19, 22, 24, 27, 40, 41, 45, 52, 56, 60, 68, 71, 73, 75, 79, 105)
MEASURES = (
    "Raw Pitch Accuracy", "Raw Chroma Accuracy", "Voicing Recall", "Voicing False Alarm",
)  # fmt: skip

Rows = dict[str, list[float]]


def extracted(waveform: Waveform) -> Tune | None:
    """The tune, or None where it is refused."""
    try:
        return extract_tune(waveform)
    except ValueError:
        return None


def right_classes(tune: Tune, written: np.ndarray, most_shift: int) -> float:
    """Share of sounding frames with the intended pitch class, under the best transposition."""
    hop = TRUTH_RATE_HZ // FRAME_RATE_HZ
    truth = written[: len(written) // hop * hop].reshape(-1, hop)[:, hop // 2]
    found = melody_frames(tune, len(truth))
    sounds = np.isfinite(truth)
    meant, got = truth[sounds], found[sounds]
    shifts = range(-most_shift, most_shift + 1)
    return max(float(((got > 0) & ((got - 1 + s - meant) % 12 == 0)).mean()) for s in shifts)


def score_hum(one: Hum, rows: Rows, label: str) -> None:
    """Adds the measures of one hum."""
    tune = extracted(one.waveform)
    rows["hums refused"].append(float(tune is None))
    if tune is None:
        return

    def as_hz(pitches: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(pitches), 440.0 * 2.0 ** ((pitches - 69.0) / 12.0), 0.0)

    times = np.arange(len(one.pitches)) / TRUTH_RATE_HZ
    scores = mir_eval.melody.evaluate(times, as_hz(one.pitches), tune.times, as_hz(tune.pitches))
    for name in MEASURES:
        rows[f"{name.lower()}, {label}"].append(float(scores[name]))
    rows[f"pitch class of frames, {label}"].append(right_classes(tune, one.written, 2))


def score_hums(rng: np.random.Generator, rows: Rows, count: int) -> None:
    """Voices and whistles, in quiet and in breath."""
    started, seconds = time.perf_counter(), 0.0
    kinds = [(vowel, register) for vowel in FORMANTS for register in ("low", "high")]
    for index in range(count):
        vowel, register = [*kinds, ("whistle", "whistle")][index % (len(kinds) + 1)]
        voice = VoiceSettings(
            vowel=vowel,
            register=register,
            vibrato_cents=float(rng.choice([0.0, 60.0])),
            glide_seconds=float(rng.choice([0.03, 0.08, 0.15])),
            off_cents=float(rng.uniform(-60, 60)),
            drift_cents=float(rng.uniform(-60, 60)),
            noise_db=[None, 20.0, 10.0][int(rng.integers(3))],
        )
        noise = "quiet" if voice.noise_db is None else f"breath at {voice.noise_db:g} dB"
        kind = "whistles" if vowel == "whistle" else "voices"
        score_hum(hum(rng, voice, SECONDS), rows, f"{kind}, {noise}")
        seconds += SECONDS
    elapsed = time.perf_counter() - started
    print(f"{seconds / elapsed:.0f} times real time, making and comparing included")


def score_instruments(rng: np.random.Generator, rows: Rows, count: int) -> None:
    """Rendered tunes and drum loops."""
    for index in range(count):
        notes = random_tune(rng, 57, 79, SECONDS)
        tune = extracted(rendered(tune_score(notes, PROGRAMS[index % len(PROGRAMS)])))
        rows["instruments refused"].append(float(tune is None))
        if tune is not None:
            written = np.full(int(SECONDS * TRUTH_RATE_HZ), np.nan)
            for start, end, pitch in notes:
                written[int(start * TRUTH_RATE_HZ) : int(end * TRUTH_RATE_HZ)] = pitch
            rows["pitch class of frames, instruments"].append(right_classes(tune, written, 0))
        drums = extracted(rendered(drum_score(rng, SECONDS)))
        rows["drum loops accepted"].append(float(drums is not None))


def score_noise(rng: np.random.Generator, rows: Rows, count: int) -> None:
    """Noise of all colours and whispered vowels."""
    samples = int(SECONDS * RATE_HZ)
    for index in range(count):
        vowel = list(FORMANTS)[index % len(FORMANTS)]
        sound = coloured_noise(rng, samples, float(rng.uniform(0, 1.5)))
        if index % 2:
            one = np.ones(samples)
            sound = breath(rng, one, one > 0, VoiceSettings(vowel=vowel, noise_db=0.0))
        waveform = Waveform(samples=0.1 * sound[None].astype(np.float32), rate_hz=RATE_HZ)
        rows["noises accepted"].append(float(extracted(waveform) is not None))


def rendered(score: Score) -> Waveform:
    """With the soundfont of the system, in the room of a studio."""
    return render_score(score, RenderSettings(mixer=MixerSettings(rate_hz=RATE_HZ))).mix


def main() -> None:
    """Makes sounds, extracts tunes and reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="pieces of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    rows: Rows = defaultdict(list)
    score_hums(rng, rows, given.count)
    score_instruments(rng, rows, given.count)
    score_noise(rng, rows, given.count)
    figures: list[Figure] = [
        figure_of(name, mean_interval(np.array(values)), command=command_line())
        for name, values in rows.items()
    ]
    report(figures, given.results / "tunes.json")


if __name__ == "__main__":
    main()
