"""Whether a model follows a tune: chroma cosine with a hummed lead, beside ceiling and chance.

Run: `python benchmarks/melody.py --held clips/held [--model NAME] [--count 60]`. The lead of a
held-out clip is hummed (a synthetic voice on /m/ or /a/, with vibrato, glides and breath) and given
with one of the clip's captions. Cosine of one-hot chroma, frame by frame (MusicGen, 2306.05284,
section 4.1; .66 with and .10 without a tune are published for its own models and sets), between the
tune and: what is drawn with it, what is drawn from the words alone, the true arrangement (the
ceiling: a lead is not all that sounds), and the true arrangement of another piece (chance).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from held_clips import command_line, one_clip_per_piece, parser_of, tell
from hums import RANGES, RATE_HZ, Manner, hum

from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.generation import load
from melisma.generation.conditioning.audio import AudioConditions
from melisma.melody import chroma_cosine, chroma_of, extract_tune
from melisma.melody.chroma import CLASSES, HOP_SAMPLES
from melisma.melody.chroma import RATE_HZ as RATE_HZ_OF_CHROMA
from melisma.values import Prompt, Waveform
from melisma.values.tokens import FRAME_RATE_HZ

SECONDS = 10.0
LEAST_VOICED = 0.5
"""Share of the clip's frames in which its lead plays."""


def hummed(top: np.ndarray, rng: np.random.Generator) -> Waveform:
    """A voice on the lead, int [frame] MIDI pitches at 25 Hz, 0 where it rests."""
    edges = np.flatnonzero(np.diff(top.astype(int))) + 1
    starts, stops = [0, *edges], [*edges, len(top)]
    notes = [(a, b, int(top[a])) for a, b in zip(starts, stops, strict=True) if top[a] > 0]
    low, high = RANGES["low"]
    middle = float(np.median([pitch for _, _, pitch in notes]))
    shift = 12 * round(((low + high) / 2 - middle) / 12)
    rows = [[a / FRAME_RATE_HZ, b / FRAME_RATE_HZ, float(pitch + shift)] for a, b, pitch in notes]
    manner = Manner(
        vowel=("/m/", "/a/")[int(rng.integers(2))],
        vibrato_cents=float(rng.uniform(0, 40)),
        off_cents=float(rng.uniform(-30, 30)),
        noise_db=25.0,
    )
    return hum(rng, manner, len(top) / FRAME_RATE_HZ, rows).waveform


def lead_chroma(top: np.ndarray) -> np.ndarray:
    """One-hot classes of the lead at the middles of chroma frames, float32 [chroma frame, 12]."""
    count = 1 + round(SECONDS * RATE_HZ_OF_CHROMA) // HOP_SAMPLES
    middles = np.arange(count) * HOP_SAMPLES / RATE_HZ_OF_CHROMA
    pitches = top[np.minimum((middles * FRAME_RATE_HZ).astype(int), len(top) - 1)]
    return np.eye(CLASSES, dtype=np.float32)[pitches % 12] * (pitches > 0)[:, None]


def clips_with_leads(ears: AudioShards, count: int) -> list[int]:
    """Clips of different pieces whose lead plays in most frames."""
    found = []
    for clip in one_clip_per_piece(ears, len(ears)):
        shard, place = ears.locate(clip)
        top = ears.labels[shard]["top"][place][: round(SECONDS * FRAME_RATE_HZ)]
        if np.mean(top > 0) >= LEAST_VOICED and ears.rows[clip].get("captions"):
            found.append(clip)
    return found[:count]


def main() -> None:
    """Measures one model."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--guidance", type=float, help="of the model's only or first stage")
    parser.add_argument("--keep", type=Path, help="a folder for tunes and pieces")
    given = parser.parse_args()
    ears = read_audio_shards(given.held)
    composer = load(given.model)
    settings = composer.drawing({} if given.guidance is None else {"guidance": given.guidance})
    clips = clips_with_leads(ears, given.count)
    rng = np.random.default_rng(0)
    tunes, leads, truths, refused = [], [], [], 0
    rows: dict[str, list[float]] = {n: [] for n in ("with", "without", "ceiling", "chance")}
    for clip in clips:
        shard, place = ears.locate(clip)
        frames = round(SECONDS * FRAME_RATE_HZ)
        top = ears.labels[shard]["top"][place][:frames].astype(int)
        tunes.append(hummed(top, rng))
        leads.append(lead_chroma(top))
        sound = ears.sound[shard][place][: round(SECONDS * RATE_HZ)].astype(np.float32) / 32768
        truths.append(chroma_of(Waveform(samples=sound[None], rate_hz=RATE_HZ)))
    for number, (clip, tune) in enumerate(zip(clips, tunes, strict=True)):
        wanted = leads[number]
        captions = ears.rows[clip]["captions"]
        assert isinstance(captions, list)
        words = str(captions[number % len(captions)])
        drawn: dict[str, Waveform] = {}
        try:
            extract_tune(tune)
        except ValueError:
            refused += 1
            continue
        for name, told in (("with", AudioConditions(melody=tune)), ("without", AudioConditions())):
            (piece,) = composer.generate_pieces(
                Prompt(words=words, duration_seconds=SECONDS),
                seed=number,
                settings=settings,
                best_of=1,
                given=told,
            )
            drawn[name] = piece.waveform
            rows[name].append(chroma_cosine(chroma_of(piece.waveform), wanted))
        rows["ceiling"].append(chroma_cosine(truths[number], wanted))
        rows["chance"].append(chroma_cosine(truths[(number + 1) % len(clips)], wanted))
        if given.keep is not None:
            keep(given.keep, number, tune, drawn)
        print(number, {name: round(float(np.mean(each)), 3) for name, each in rows.items()})
    print(f"{refused} of {len(clips)} hummed leads were refused: no tune was heard in them")
    tell(figures(rows), given.results / "melody.json")


def keep(folder: Path, number: int, tune: Waveform, drawn: dict[str, Waveform]) -> None:
    """Writes the tune and what was drawn."""
    from melisma.files import write_audio

    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in {"tune": tune, **drawn}.items():
        write_audio(folder / f"{number:03d}-{name}.wav", sound)


def figures(rows: dict[str, list[float]]) -> list[Figure]:
    """With and without the tune, and with less without, piece by piece."""
    ceiling, chance = (float(np.mean(rows[name])) for name in ("ceiling", "chance"))
    columns = {
        "chroma cosine with a hummed lead": rows["with"],
        "chroma cosine without the tune": rows["without"],
        "chroma cosine, with less without": list(np.subtract(rows["with"], rows["without"])),
    }
    return [
        figure_of(
            name, mean_interval(values), chance=chance, ceiling=ceiling, command=command_line()
        )
        for name, values in columns.items()
    ]


if __name__ == "__main__":
    main()
