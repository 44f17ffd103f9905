"""How good the codec sounds on held-out clips, beside Opus.

Run: `python benchmarks/codec.py --held CLIPS [--levels 4 8] [--count 24] [--seconds 4]`. For each
number of levels and for `opusenc --hard-cbr --bitrate 12` with its real bitrate: ViSQOL in audio
mode at 48 kHz (`pip install visqol-python`; `--no-visqol` leaves it out), the distance of log-mel
bands, SI-SDR, and note-onset F1 in the reconstruction over that in the original, both against the
notes' true onsets. For each level: the share of its codebook that is used and the entropy of its
tokens; for all levels together the bitrate that an entropy coder would need. SI-SDR depends on
phase, which this codec does not preserve: it is included for completeness and says little about
quality.

With `--embedding music signal ...`: the Fréchet distance of round trips from held-out clips (C),
beside that of the clips themselves (F), both between halves of the clips that share no work, at
the same number of clips (`--clips`, all by default).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_clips import command_line, one_clip_per_piece, parser_of, report

from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.fidelity import (
    Scorer,
    code_use,
    code_with_opus,
    entropy_kilobits,
    log_mel_distance,
    nominal_kilobits,
    onset_ratio,
    opinion_score,
    si_sdr_db,
    visqol_scorer,
)
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.frechet import Pieces, half_floor, matched_distance
from melisma.evaluate.metrics.statistics import Interval, mean_interval, median_interval
from melisma.evaluate.models.embeddings import Embedding, named_embedding
from melisma.generation.loading import AnyRateCodec, load_codec
from melisma.train.judge import clip_waveform
from melisma.values import TokenGrid, Waveform
from melisma.values.tokens import FRAME_RATE_HZ

OPUS_KILOBITS = 12.0


def cut(waveform: Waveform, seconds: float) -> Waveform:
    """The first seconds."""
    samples = waveform.samples[:, : round(seconds * waveform.rate_hz)]
    return Waveform(samples=samples, rate_hz=waveform.rate_hz)


def scored(
    originals: list[Waveform], coded: list[Waveform], seconds: float, scorer: Scorer
) -> np.ndarray:
    """ViSQOL of each clip's first seconds, float64 [clip]."""
    return np.array(
        [
            opinion_score(cut(before, seconds), cut(after, seconds), scorer)
            for before, after in zip(originals, coded, strict=True)
        ]
    )


def sound_figures(
    what: str,
    originals: list[Waveform],
    coded: list[Waveform],
    onsets: list[np.ndarray],
    quality: Interval | None,
    details: dict[str, float | str],
) -> list[Figure]:
    """Rows about how the reconstructions sound; `quality` is ViSQOL's, None where it was left
    out."""
    pairs = list(zip(originals, coded, strict=True))
    ratios = np.array([onset_ratio(t, a, b) for t, (a, b) in zip(onsets, pairs, strict=True)])
    mels = mean_interval(np.array([log_mel_distance(a, b) for a, b in pairs]))
    distortions = median_interval(np.array([si_sdr_db(a, b) for a, b in pairs]))
    kept = mean_interval(ratios[np.isfinite(ratios)])
    rows: list[tuple[str, Interval, float | None, str]] = [
        ("onset F1 ratio", kept, 1.0, ""),
        ("log-mel distance", mels, 0.0, "dB"),
        ("SI-SDR, median", distortions, None, "dB"),
    ]
    if quality is not None:
        rows.insert(0, ("ViSQOL", quality, 4.732, ""))
    return [
        figure_of(
            f"{name}, {what}", interval, ceiling=ceiling, unit=unit, command=command_line(),
            details=details,
        )
        for name, interval, ceiling, unit in rows
    ]  # fmt: skip


def code_figures(grids: list[TokenGrid]) -> list[Figure]:
    """Rows about how the codebooks are used."""
    uses = code_use(grids)
    figures = []
    for level, use in enumerate(uses, start=1):
        details: dict[str, float | str] = {"tokens": use.tokens, "share used": round(use.used, 4)}
        figures.append(
            Figure(
                what=f"entropy of level {level}", value=use.entropy_bits, ceiling=use.capacity_bits,
                count=len(grids), unit="bit", command=command_line(), details=details,
            )
        )  # fmt: skip
        figures.append(
            Figure(
                what=f"codebook used, level {level}", value=use.used, ceiling=1.0,
                count=len(grids), command=command_line(), details=details,
            )
        )  # fmt: skip
    rate_hz = grids[0].frame_rate_hz
    figures.append(
        Figure(
            what=f"bitrate after entropy coding, {len(uses)} levels",
            value=entropy_kilobits(uses, rate_hz), ceiling=nominal_kilobits(uses, rate_hz),
            count=len(grids), unit="kbit/s", command=command_line(),
        )
    )  # fmt: skip
    return figures


def distance_figures(
    shards: AudioShards,
    codec: AnyRateCodec,
    levels: list[int],
    embedding: Embedding,
    clips: int | None,
) -> list[Figure]:
    """F and C: the distance of clips, and of round trips, from clips of other works."""
    count = len(shards) if clips is None else min(clips, len(shards))
    groups = [str(row["group"]) for row in shards.rows[:count]]
    sounds = [clip_waveform(shards, clip) for clip in range(count)]
    real = Pieces.of([embedding.embed(sound) for sound in sounds], groups)
    floor = half_floor(real)
    name = f"Fréchet distance, {embedding.name}"
    details: dict[str, float | str] = {"fingerprint": embedding.fingerprint}
    figures = [figure_of(f"{name}, clips (F)", floor, command=command_line(), details=details)]
    for most in levels:
        coded = [embedding.embed(codec.decode(codec.encode(sound, most))) for sound in sounds]
        ceiling = matched_distance(Pieces.of(coded, groups), real, derived=True)
        figures.append(
            figure_of(
                f"{name}, {most} levels (C)", ceiling, ceiling=floor.value, command=command_line(),
                details=details,
            )
        )  # fmt: skip
    return figures


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--levels", type=int, nargs="+", help="numbers of levels; 1, 2, 4 ... all")
    parser.add_argument("--count", type=int, default=24, help="clips, one per work")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each clip for ViSQOL")
    parser.add_argument("--no-visqol", action="store_true")
    parser.add_argument("--no-opus", action="store_true")
    parser.add_argument(
        "--embedding", nargs="+", default=[], help="music, judge, signal, hub:NAME_OR_FOLDER"
    )
    parser.add_argument("--judges", type=Path, help="folder of the judge, for --embedding judge")
    parser.add_argument("--clips", type=int, help="clips for Fréchet distances; all by default")
    return parser.parse_args()


def main() -> None:
    """Codes, compares and reports."""
    given = arguments()
    shards = read_audio_shards(given.held)
    clips = one_clip_per_piece(shards, given.count)
    originals = [clip_waveform(shards, clip) for clip in clips]
    onsets = [shards.onsets_seconds(clip) for clip in clips]
    codec = load_codec(given.model)
    most = len(codec.encode(originals[0], None).tokens)
    levels = given.levels or sorted({1, 2, 4, most, *range(2, most + 1, 2)} & {*range(1, most + 1)})
    embeddings = [
        named_embedding(name, model=given.model, judge=given.judges) for name in given.embedding
    ]
    scorer = None if given.no_visqol else visqol_scorer()
    figures: list[Figure] = []

    def rows(name: str, coded: list[Waveform], kilobits: float) -> None:
        label = f"{name}, {kilobits:.2f} kbit/s"
        quality = (
            None
            if scorer is None
            else mean_interval(scored(originals, coded, given.seconds, scorer))
        )
        details: dict[str, float | str] = {"kbit/s": round(kilobits, 2)}
        figures.extend(sound_figures(label, originals, coded, onsets, quality, details))
        print(f"{label} done", flush=True)

    for count in levels:
        grids = [codec.encode(sound, count) for sound in originals]
        kilobits = nominal_kilobits(code_use(grids), FRAME_RATE_HZ)
        rows(f"{count} levels", [codec.decode(grid) for grid in grids], kilobits)
    if not given.no_opus:
        opus = [code_with_opus(sound, OPUS_KILOBITS) for sound in originals]
        rows("Opus hard-cbr 12", [sound for sound, _ in opus], float(np.mean([k for _, k in opus])))
    figures.extend(code_figures([codec.encode(sound, most) for sound in originals]))
    for embedding in embeddings:
        figures.extend(distance_figures(shards, codec, levels, embedding, given.clips))
    report(figures, given.results / "codec.json")


if __name__ == "__main__":
    main()
