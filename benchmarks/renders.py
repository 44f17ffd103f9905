"""Does a corpus agree with its labels? Measures clips by signal processing and compares.

Run: `python benchmarks/renders.py --clips CLIPS [--count 20] [--plots FOLDER]`. Run this before
anything is trained on a corpus: no model can learn what is wrong here. For each clip onsets, pitch
classes, tempo and key as measured are compared with its labels; with `--plots` a plot of each with
the labelled pitch classes under the spectrogram.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_clips import RESULTS, command_line, one_clip_per_piece, report

from melisma.analysis.audio.key import measure_tonality
from melisma.analysis.audio.onsets import find_onsets, score_onsets
from melisma.analysis.audio.tempo import measure_tempo
from melisma.analysis.plots.spectrogram import spectrogram_data
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.train.judge import clip_waveform
from melisma.values import Facts, Waveform
from melisma.values.attributes import PITCH_NAMES
from melisma.values.tokens import FRAME_RATE_HZ


def labels_of(shards: AudioShards, clip: int) -> dict[str, np.ndarray]:
    """The labels of one clip, each [frame, ...]."""
    shard, row = shards.locate(clip)
    return {name: array[row] for name, array in shards.labels[shard].items()}


def compared(sound: Waveform, labels: dict[str, np.ndarray], facts: Facts) -> dict[str, float]:
    """Agreement of measurements with labels; nan where there is nothing to compare."""
    struck = labels["onset"].any(axis=1) | labels["drum"].any(axis=1)
    truth = (np.flatnonzero(struck) + 0.5) / FRAME_RATE_HZ
    key = measure_tonality(sound)
    played = labels["pitch_class"].sum(axis=0).astype(np.float64)
    chroma = np.corrcoef(key.chroma, played)[0, 1] if played.any() else np.nan
    tempo = measure_tempo(sound).bpm
    found = {
        "onset F1": score_onsets(truth, find_onsets(sound)).f1 if len(truth) else np.nan,
        "chroma correlation": float(chroma),
        "tempo within 5 %": np.nan,
        "tempo within 5 % or an octave of it": np.nan,
        "tonality": np.nan,
    }
    if facts.tempo_bpm is not None and tempo is not None:
        apart = np.abs(np.log(tempo / facts.tempo_bpm) - np.log([1.0, 0.5, 2.0]))
        found["tempo within 5 %"] = float(apart[0] < np.log(1.05))
        found["tempo within 5 % or an octave of it"] = float(apart.min() < np.log(1.05))
    if facts.tonality is not None:
        found["tonality"] = float(key.tonality == facts.tonality)
    return found


def plot(sound: Waveform, labels: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Plots the log-mel spectrogram above the labelled pitch classes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(10, 5), sharex=True)
    extent = (0.0, sound.seconds, 0.0, 1.0)
    axes[0].imshow(spectrogram_data(sound).mel_db, origin="lower", aspect="auto", extent=extent)
    axes[0].set(title=title, ylabel="mel bin", yticks=[])
    roll = labels["pitch_class"].T + 1.0 * labels["onset"].T
    axes[1].imshow(
        roll,
        origin="lower",
        aspect="auto",
        extent=(0, sound.seconds, -0.5, 11.5),
        cmap="Greys",
        interpolation="nearest",
    )
    axes[1].set(xlabel="seconds", ylabel="pitch class")
    axes[1].set_yticks(range(12), PITCH_NAMES, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main() -> None:
    """Measures, compares and reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="clips of melisma prepare")
    parser.add_argument("--count", type=int, default=20, help="clips, one per work")
    parser.add_argument("--plots", type=Path, help="folder for a plot of each clip")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = parser.parse_args()
    shards = read_audio_shards(given.clips)
    found: dict[str, list[float]] = {}
    for clip in one_clip_per_piece(shards, given.count):
        sound, labels, facts = (
            clip_waveform(shards, clip),
            labels_of(shards, clip),
            shards.facts(clip),
        )
        agreement = compared(sound, labels, facts)
        for name, value in agreement.items():
            found.setdefault(name, []).append(value)
        description = (
            f"{facts.tempo_bpm or 0:.0f} bpm, {facts.tonality}, {', '.join(facts.instruments)}"
        )
        print(
            f"{clip:5d} {description}: " + ", ".join(f"{k} {v:.2f}" for k, v in agreement.items())
        )
        if given.plots is not None:
            given.plots.mkdir(parents=True, exist_ok=True)
            plot(sound, labels, f"clip {clip}: {description}", given.plots / f"{clip:05d}.png")
    figures: list[Figure] = []
    for name, values in found.items():
        known = np.array([value for value in values if np.isfinite(value)])
        if len(known):
            figures.append(
                figure_of(
                    f"renders measured as labelled: {name}", mean_interval(known), ceiling=1.0,
                    command=command_line(),
                )
            )  # fmt: skip
    report(figures, given.results / "renders.json")


if __name__ == "__main__":
    main()
