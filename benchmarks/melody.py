"""Does a model follow a tune? Chroma cosine with a hummed lead, beside ceiling and chance.

Run: `python benchmarks/melody.py --held clips/held [--model NAME] [--count 60]`. The lead of a
held-out clip is hummed (a synthetic voice on /m/ or /a/, with vibrato, glides and breath) and given
with one of the clip's captions. Cosine of one-hot chroma, frame by frame (MusicGen, 2306.05284,
section 4.1; .66 with and .10 without a tune are published for its own models and sets), between the
tune and: what is generated with it, what is generated from the text alone, the true arrangement
(the ceiling: other parts sound beside the lead), and the true arrangement of another piece
(chance).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from held_clips import command_line, one_clip_per_piece, parser_of, report
from hums import RANGES, RATE_HZ, VoiceSettings, hum

from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.loading import load
from melisma.melody import chroma_cosine, chroma_of, extract_tune
from melisma.melody.chroma import CLASSES, HOP_SAMPLES
from melisma.melody.chroma import RATE_HZ as RATE_HZ_OF_CHROMA
from melisma.values import Prompt, Waveform
from melisma.values.sampling import SamplingParams
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
    voice = VoiceSettings(
        vowel=("/m/", "/a/")[int(rng.integers(2))],
        vibrato_cents=float(rng.uniform(0, 40)),
        off_cents=float(rng.uniform(-30, 30)),
        noise_db=25.0,
    )
    return hum(rng, voice, len(top) / FRAME_RATE_HZ, rows).waveform


def lead_chroma(top: np.ndarray) -> np.ndarray:
    """One-hot classes of the lead at the middles of chroma frames, float32 [chroma frame, 12]."""
    count = 1 + round(SECONDS * RATE_HZ_OF_CHROMA) // HOP_SAMPLES
    middles = np.arange(count) * HOP_SAMPLES / RATE_HZ_OF_CHROMA
    pitches = top[np.minimum((middles * FRAME_RATE_HZ).astype(int), len(top) - 1)]
    return np.eye(CLASSES, dtype=np.float32)[pitches % 12] * (pitches > 0)[:, None]


def clips_with_leads(shards: AudioShards, count: int) -> list[int]:
    """Clips of different pieces whose lead plays in most frames."""
    found = []
    for clip in one_clip_per_piece(shards, len(shards)):
        shard, row = shards.locate(clip)
        top = shards.labels[shard]["top"][row][: round(SECONDS * FRAME_RATE_HZ)]
        if np.mean(top > 0) >= LEAST_VOICED and shards.rows[clip].get("captions"):
            found.append(clip)
    return found[:count]


def main() -> None:
    """Measures one model."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--guidance", type=float, help="of the model's only or first stage")
    parser.add_argument("--keep", type=Path, help="a folder for tunes and pieces")
    given = parser.parse_args()
    shards = read_audio_shards(given.held)
    composer = load(given.model)
    sampling = SamplingParams(guidance=given.guidance)
    clips = clips_with_leads(shards, given.count)
    rng = np.random.default_rng(0)
    tunes, leads, truths, refused = [], [], [], 0
    rows: dict[str, list[float]] = {n: [] for n in ("with", "without", "ceiling", "chance")}
    for clip in clips:
        shard, row = shards.locate(clip)
        frames = round(SECONDS * FRAME_RATE_HZ)
        top = shards.labels[shard]["top"][row][:frames].astype(int)
        tunes.append(hummed(top, rng))
        leads.append(lead_chroma(top))
        sound = shards.sound[shard][row][: round(SECONDS * RATE_HZ)].astype(np.float32) / 32768
        truths.append(chroma_of(Waveform(samples=sound[None], rate_hz=RATE_HZ)))
    for number, (clip, tune) in enumerate(zip(clips, tunes, strict=True)):
        wanted = leads[number]
        captions = shards.rows[clip]["captions"]
        assert isinstance(captions, list)
        words = str(captions[number % len(captions)])
        generated: dict[str, Waveform] = {}
        try:
            extract_tune(tune)
        except ValueError:
            refused += 1
            continue
        contexts = (("with", AudioConditions(melody=tune)), ("without", AudioConditions()))
        for name, context in contexts:
            (piece,) = composer.generate_pieces(
                Prompt(words=words, duration_seconds=SECONDS),
                seed=number,
                sampling=sampling,
                best_of=1,
                context=context,
            )
            generated[name] = piece.waveform
            rows[name].append(chroma_cosine(chroma_of(piece.waveform), wanted))
        rows["ceiling"].append(chroma_cosine(truths[number], wanted))
        rows["chance"].append(chroma_cosine(truths[(number + 1) % len(clips)], wanted))
        if given.keep is not None:
            keep(given.keep, number, tune, generated)
        print(number, {name: round(float(np.mean(each)), 3) for name, each in rows.items()})
    print(f"{refused} of {len(clips)} hummed leads were refused: no tune was found in them")
    report(figures(rows), given.results / "melody.json")


def keep(folder: Path, number: int, tune: Waveform, generated: dict[str, Waveform]) -> None:
    """Writes the tune and the generated sound."""
    from melisma.files import write_audio

    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in {"tune": tune, **generated}.items():
        write_audio(folder / f"{number:03d}-{name}.wav", sound)


def figures(rows: dict[str, list[float]]) -> list[Figure]:
    """Rows with and without the tune, and of the difference, piece by piece."""
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
