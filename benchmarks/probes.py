"""Do semantic tokens encode what is played better than the first acoustic level does?

Run: `python benchmarks/probes.py --clips TRAIN_CLIPS --held CLIPS [--count 300]`. Ridge regression
on one-hot tokens of three neighbouring frames; pitch classes and chords per frame, families per
clip.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from held_clips import command_line, parser_of, report
from studies.probes import ProbeClip, ProbeScores, probe

from melisma.codec import AcousticCodec
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import bootstrap, mean_interval
from melisma.generation.resolve import model_folder
from melisma.semantic import SemanticTokenizer
from melisma.tokenizers import TokenizerPaths
from melisma.train.judge import clip_waveform
from melisma.values import TokenGrid, Waveform


def probe_clips(
    shards: AudioShards, count: int, encode: Callable[[Waveform], TokenGrid]
) -> list[ProbeClip]:
    """Tokens and labels of the first clips, evenly spread."""
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(count, len(shards))).astype(int))
    clips: list[ProbeClip] = []
    for clip in chosen.tolist():
        grid = encode(clip_waveform(shards, clip))
        shard, row = shards.locate(clip)
        frames = grid.tokens.shape[1]
        labels = {name: array[row][:frames] for name, array in shards.labels[shard].items()}
        clips.append(
            ProbeClip(
                grid=grid,
                pitch_class=labels["pitch_class"],
                chord=labels["chord"],
                family=labels["family"],
            )
        )
    return clips


def figures_of(name: str, scores: ProbeScores, command: str) -> list[Figure]:
    """Three rows for one kind of tokens."""
    pitch = scores.pitch_class_f1[np.isfinite(scores.pitch_class_f1)]
    chord = scores.chord[np.isfinite(scores.chord)]
    families = bootstrap(scores.family_auc, len(scores.family_truth), repeats=300)
    return [
        figure_of(f"probe of pitch classes, F1, {name}", mean_interval(pitch), command=command),
        figure_of(f"probe of chords, {name}", mean_interval(chord), chance=1 / 24, command=command),
        figure_of(f"probe of families, AUC, {name}", families, chance=0.5, command=command),
    ]


def main() -> None:
    """Encodes, probes and reports."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--clips", type=Path, required=True, help="clips to fit the probes on")
    parser.add_argument("--count", type=int, default=300, help="clips for fitting")
    parser.add_argument("--held-count", type=int, default=150)
    given = parser.parse_args()
    paths = TokenizerPaths.of(model_folder(given.model))
    codec, semantic = AcousticCodec.read(paths.codec), SemanticTokenizer.read(paths.semantic)
    train, held = read_audio_shards(given.clips), read_audio_shards(given.held)

    def acoustic(waveform: Waveform) -> TokenGrid:
        return codec.encode(waveform, 1)

    def semantic_first(waveform: Waveform) -> TokenGrid:
        grid = semantic.encode(waveform)
        return TokenGrid(
            tokens=grid.tokens[:1],
            vocabulary=grid.vocabulary,
            frame_rate_hz=grid.frame_rate_hz,
            fingerprint=grid.fingerprint,
        )

    kinds: dict[str, Callable[[Waveform], TokenGrid]] = {
        "semantic tokens": semantic.encode,
        "semantic tokens, first level": semantic_first,
        "first acoustic level": acoustic,
    }
    figures: list[Figure] = []
    for name, encode in kinds.items():
        scores = probe(
            probe_clips(train, given.count, encode), probe_clips(held, given.held_count, encode)
        )
        figures += figures_of(name, scores, command_line())
    report(figures, given.results / "probes.json")


if __name__ == "__main__":
    main()
