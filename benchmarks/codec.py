"""How good the codec sounds on held-out clips, beside Opus.

Run: `python benchmarks/codec.py --held CLIPS [--levels 4 8] [--count 24] [--seconds 4]`. ViSQOL in
audio mode at 48 kHz (`pip install visqol-python`) for each number of levels and for `opusenc
--hard-cbr --bitrate 12` with its real bitrate; and note-onset F1 in the reconstruction over that in
the original, both against the notes' true onsets.
"""

from __future__ import annotations

import numpy as np
from held_clips import command_line, one_clip_per_piece, parser_of, tell

from melisma.compose import load_codec
from melisma.corpus.ears import Ears, read_ears
from melisma.evaluate.fidelity import (
    Scorer,
    code_with_opus,
    onset_ratio,
    opinion_score,
    visqol_scorer,
)
from melisma.evaluate.statistics import mean_interval
from melisma.evaluate.table import Figure, figure_of
from melisma.train.judge import clip_waveform
from melisma.values import Waveform
from melisma.values.tokens import FRAME_RATE_HZ

OPUS_KILOBITS = 12.0


def true_onsets(ears: Ears, clip: int) -> np.ndarray:
    """Onsets of notes and drums in seconds from the clip's labels, float64 [onset]."""
    shard, place = ears.locate(clip)
    labels = ears.labels[shard]
    struck = labels["onset"][place].any(axis=1) | labels["drum"][place].any(axis=1)
    return (np.flatnonzero(struck) + 0.5) / FRAME_RATE_HZ


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


def main() -> None:
    """Code, compare, tell."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--levels", type=int, nargs="+", help="numbers of levels; 1, 2, 4 ... all")
    parser.add_argument("--count", type=int, default=24, help="clips, one per work")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each clip for ViSQOL")
    parser.add_argument("--no-visqol", action="store_true")
    given = parser.parse_args()
    ears = read_ears(given.held)
    clips = one_clip_per_piece(ears, given.count)
    originals = [clip_waveform(ears, clip) for clip in clips]
    onsets = [true_onsets(ears, clip) for clip in clips]
    codec = load_codec(given.model)
    most = len(codec.encode(originals[0], None).tokens)
    levels = given.levels or sorted({1, 2, 4, most, *range(2, most + 1, 2)} & {*range(1, most + 1)})
    scorer = None if given.no_visqol else visqol_scorer()
    figures: list[Figure] = []

    def rows(name: str, coded: list[Waveform], kilobits: float) -> None:
        details: dict[str, float | str] = {"kbit/s": round(kilobits, 2)}
        label = f"{name}, {kilobits:.2f} kbit/s"
        if scorer is not None:
            quality = mean_interval(scored(originals, coded, given.seconds, scorer))
            figures.append(
                figure_of(
                    f"ViSQOL, {label}", quality, ceiling=4.732, command=command_line(),
                    details=details,
                )
            )  # fmt: skip
        ratios = np.array(
            [onset_ratio(t, a, b) for t, a, b in zip(onsets, originals, coded, strict=True)]
        )
        kept = mean_interval(ratios[np.isfinite(ratios)])
        figures.append(
            figure_of(
                f"onset F1 ratio, {label}", kept, ceiling=1.0, command=command_line(),
                details=details,
            )
        )  # fmt: skip
        print(f"{label} done", flush=True)

    for count in levels:
        grids = [codec.encode(sound, count) for sound in originals]
        kilobits = count * FRAME_RATE_HZ * np.log2(grids[0].vocabulary) / 1000.0
        rows(f"{count} levels", [codec.decode(grid) for grid in grids], float(kilobits))
    opus = [code_with_opus(sound, OPUS_KILOBITS) for sound in originals]
    rows("Opus hard-cbr 12", [sound for sound, _ in opus], float(np.mean([k for _, k in opus])))
    tell(figures, given.results / "codec.json")


if __name__ == "__main__":
    main()
