"""`melisma generate`: from words to sound files."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import melisma
from melisma.cli import options
from melisma.cli.places import audio_places, picture_places
from melisma.cli.progress import Progress, progress_bar
from melisma.cli.receipts import original_sound, receipt_lines, sound_index, sound_receipt
from melisma.cli.wishes import (
    LARGEST_SEED,
    MOST_CANDIDATES,
    MOST_PIECES,
    check_model,
    gather_words,
    make_prompts,
    real,
    whole,
)
from melisma.values import Prompt, Waveform

if TYPE_CHECKING:
    from melisma.compose import Composer, DrawingSettings, Piece

_BATCH = 4
"""Pieces drawn side by side (chosen: more need more memory and are hardly faster on two cores)."""

_CODING_ROUNDS = 6
"""Attempts to keep a lossy file below the ceiling; each takes off all that stood out before."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    """Everything that was asked for, checked."""

    prompts: list[Prompt]
    places: list[Path]
    pictures: list[Path | None]
    seed: int
    best_of: int
    rank: str
    receipt: bool
    original: bool
    drawing: dict[str, float | int]
    """Only the drawing settings that were given."""
    model: str
    threads: int | None


def generate(
    prompts: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    duration: options.Duration = 10.0,
    seed: options.Seed = None,
    output: options.Output = None,
    count: options.Count = 1,
    best_of: options.BestOf = 4,
    rank: options.Rank = "words",
    receipt: options.Receipt = False,
    original: options.Original = False,
    bpm: options.Bpm = None,
    key: options.Key = None,
    metre: options.Metre = None,
    guidance: options.Guidance = None,
    guidance_coarse: options.GuidanceCoarse = None,
    temperature_semantic: options.TemperatureSemantic = None,
    top_k_semantic: options.TopKSemantic = None,
    temperature_coarse: options.TemperatureCoarse = None,
    top_k_coarse: options.TopKCoarse = None,
    temperature_fine: options.TemperatureFine = None,
    engine: options.Engine = "sound",
    model: options.Model = "default",
    form: options.Format = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Make music from words."""
    words = gather_words(prompts or [], prompts_file)
    wishes = make_prompts(
        words, count=count, duration_seconds=duration, tempo_bpm=bpm, key=key, metre=metre
    )
    whole("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    whole("--best-of", best_of, 1, MOST_CANDIDATES)
    whole("--threads", threads, 1, 1024)
    drawing = _drawing(
        {
            "guidance_semantic": guidance,
            "guidance_coarse": guidance_coarse,
            "temperature_semantic": temperature_semantic,
            "temperature_coarse": temperature_coarse,
            "temperature_fine": temperature_fine,
            "top_k_semantic": top_k_semantic,
            "top_k_coarse": top_k_coarse,
        }
    )
    check_model(model)
    check_engine(engine, drawing, rank)
    seed = secrets.randbelow(2**31) if seed is None else seed
    order = _Order(
        prompts=wishes,
        places=audio_places(output, form, [wish.words for wish in wishes], seed),
        pictures=picture_places(plot, len(wishes)),
        seed=seed,
        best_of=best_of,
        rank=rank,
        receipt=receipt,
        original=original,
        drawing=drawing,
        model=model,
        threads=threads,
    )
    with progress_bar("composing", quiet=quiet) as progress:
        receipts = _fulfil_by(engine, order, progress)
    if as_json:
        document = {"version": melisma.__version__, "pieces": receipts}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        for row in receipts:
            print(_line(row))


def check_engine(engine: str, drawing: Mapping[str, float | int], rank: str) -> None:
    """Raise unless the engine is known, and the settings given are its own."""
    if engine not in ("sound", "score", "auto"):
        raise ValueError(f'no engine "{engine}": known are sound, score, auto')
    if engine == "score" and drawing:
        names = ", ".join("--" + name.replace("_", "-") for name in drawing)
        raise ValueError(
            f"{names} set how sound is drawn: leave them out, or use `melisma compose`, which has "
            "settings for scores"
        )
    if rank not in ("words", "receipt"):
        raise ValueError(f'no ranking "{rank}": known are words, receipt')
    if engine == "score" and rank != "words":
        raise ValueError(
            "--rank ranks drawn sound: leave it out, scores are ranked by what their notes keep"
        )


def _fulfil_by(engine: str, order: _Order, progress: Progress) -> list[dict[str, object]]:
    """Every piece by its engine; neighbours of one engine are drawn together."""
    chosen = [(engine, "")] * len(order.prompts)
    if engine == "auto":
        from melisma.compose.engines import favoured_engine

        chosen = [
            favoured_engine(p.words, bool(p.tempo_bpm or p.tonality or p.metre))
            for p in order.prompts
        ]
    receipts: list[dict[str, object]] = []
    total = len(chosen)
    while len(receipts) < total:
        first = len(receipts)
        stop = first + 1
        while stop < total and chosen[stop][0] == chosen[first][0]:
            stop += 1
        part = replace(
            order,
            prompts=order.prompts[first:stop],
            places=order.places[first:stop],
            pictures=order.pictures[first:stop],
            seed=order.seed + first,
        )

        def tell(share: float, first: int = first, count: int = stop - first) -> None:
            progress((first + share * count) / total)

        fulfil = _fulfil_scores if chosen[first][0] == "score" else _fulfil
        for receipt, (name, why) in zip(fulfil(part, tell), chosen[first:stop], strict=True):
            receipts.append(receipt | {"engine": name} | ({"engine_reason": why} if why else {}))
    return receipts


def _fulfil_scores(order: _Order, progress: Progress) -> list[dict[str, object]]:
    """The pieces as scores, rendered; the scores themselves lie beside the sound."""
    from melisma.cli.scoring import ScoreOrder, fulfil_scores

    receipts: list[dict[str, object]] = []
    total = len(order.prompts)
    for number, prompt in enumerate(order.prompts):

        def tell(share: float, number: int = number) -> None:
            progress((number + share) / total)

        metre = None if prompt.metre is None else tuple(map(int, prompt.metre.split("/")))
        wish = {
            "duration_seconds": prompt.duration_seconds,
            "tempo_bpm": prompt.tempo_bpm,
            "tonality": prompt.tonality,
            "metre": metre,
        }
        place = order.places[number]
        (receipt,) = fulfil_scores(
            ScoreOrder(
                words=[prompt.words],
                wish=wish,
                instruments=None,
                continue_from=None,
                infill=None,
                melody=None,
                seed=order.seed + number,
                best_of=order.best_of,
                receipt=order.receipt,
                original=order.original,
                drawing={},
                model=order.model,
                threads=order.threads,
                places=[place.with_suffix(".mid")],
                sounds=[place],
                pictures=[order.pictures[number]],
                stems=[None],
                soundfont=None,
                room="studio",
            ),
            tell,
        )
        sound = receipt["sound"]
        assert isinstance(sound, dict)
        facts = {name: sound[name] for name in ("seconds", "rate_hz", "loudness_lufs")}
        receipts.append(receipt | facts | {"path": str(place), "score": receipt["path"]})
    return receipts


def _drawing(given: Mapping[str, float | int | None]) -> dict[str, float | int]:
    """The drawing settings that were given, each within its limits."""
    for name, number in given.items():
        option = "--guidance" if name == "guidance_semantic" else "--" + name.replace("_", "-")
        if name.startswith("top_k"):
            whole(option, None if number is None else int(number), 1, 65_536)
        elif name.startswith("guidance"):
            real(option, number, 0.0, 20.0)
        else:
            real(option, number, 0.01, 5.0)
    return {name: number for name, number in given.items() if number is not None}


def _fulfil(order: _Order, progress: Progress) -> list[dict[str, object]]:
    """Draw, master and write every piece; a batch is on disk before the next begins."""
    from melisma.compose import DrawingSettings, load

    composer = load(order.model, order.threads)
    settings = replace(DrawingSettings(), **order.drawing)
    index = sound_index(composer, order.model) if order.original else None
    receipts = []
    total = len(order.prompts)

    def draw(prompts: list[Prompt], seed: int, progress: Progress | None) -> list[Piece]:
        return composer.generate_pieces(
            prompts,
            seed=seed,
            settings=settings,
            best_of=order.best_of,
            rank=order.rank,
            progress=progress,
        )

    for first in range(0, total, _BATCH):
        prompts = order.prompts[first : first + _BATCH]

        def tell(part: float, first: int = first, size: int = len(prompts)) -> None:
            progress((first + part * size) / total)

        pieces = draw(prompts, order.seed + first, tell)
        for number, piece in enumerate(pieces, start=first):
            checked: dict[str, object] | None = None
            if index is not None:
                prompt = piece.prompt
                found = original_sound(piece, lambda s, p=prompt: draw([p], s, None)[0], index)
                piece, checked = found.piece, found.as_json()
            receipts.append(_write(order, number, piece, composer, settings, checked))
    return receipts


def _write(
    order: _Order,
    number: int,
    piece: Piece,
    composer: Composer,
    settings: DrawingSettings,
    checked: dict[str, object] | None,
) -> dict[str, object]:
    """Master and write one piece, and return its receipt."""
    from melisma.compose.signing import provenance_of
    from melisma.files import write_audio
    from melisma.sound.loudness import integrated_lufs, true_peak_db

    place, picture = order.places[number], order.pictures[number]
    sound = finish(piece.waveform, place.suffix)
    drawn = {
        "duration_seconds": piece.prompt.duration_seconds,
        "tempo_bpm": piece.prompt.tempo_bpm,
        "tonality": piece.prompt.tonality,
        "metre": piece.prompt.metre,
        "best_of": order.best_of,
        "rank": order.rank,
        "drawing": asdict(settings),
        "conditions": piece.conditions,
    }
    provenance = provenance_of(composer, piece.prompt.words, piece.seed, drawn)
    write_audio(place, sound, provenance)
    if picture is not None:
        from melisma.measure.picture import draw_sound

        draw_sound(sound, picture, piece.prompt.words)
    lufs = integrated_lufs(sound)
    peak_db = true_peak_db(sound)
    return {
        "path": str(place),
        "plot": None if picture is None else str(picture),
        "prompt": piece.prompt.words,
        "seed": piece.seed,
        "seconds": round(sound.seconds, 3),
        "rate_hz": sound.rate_hz,
        "similarity": round(piece.similarity, 4),
        "candidates": [round(candidate, 4) for candidate in piece.candidates],
        "conditions": piece.conditions,
        "loudness_lufs": None if lufs is None else round(lufs, 2),
        "true_peak_db": round(peak_db, 2) if lufs is not None else None,
        "model": composer.name,
        "fingerprint": composer.fingerprint,
        "licence": composer.licence,
        "ai_generated": True,
        "settings": drawn,
        **({} if not order.receipt else {"receipt": sound_receipt(composer, piece, sound)}),
        **({} if checked is None else {"original": checked}),
    }


def finish(raw: Waveform, ending: str) -> Waveform:
    """Master the sound so that its true peak keeps below the ceiling after lossy coding, too."""
    from melisma.files.audio import LOSSY_ENDINGS, heard_after_coding
    from melisma.sound.loudness import true_peak_db
    from melisma.sound.mastering import CEILING_DB, master

    sound = master(raw)
    if ending.lower() not in LOSSY_ENDINGS:
        return sound
    ceiling_db = CEILING_DB
    for _ in range(_CODING_ROUNDS):
        over_db = true_peak_db(heard_after_coding(sound, ending)) - CEILING_DB
        if over_db < 0:
            break
        ceiling_db -= over_db + 0.1
        sound = master(raw, ceiling_db=ceiling_db)
    return sound


def _line(receipt: dict[str, object]) -> str:
    """One line about a piece for a person."""
    conditions = receipt["conditions"]
    assert isinstance(conditions, dict)
    facts = [f"{receipt['seconds']:g} s", f"seed {receipt['seed']}"]
    facts += [f"{name} {value}" for name, value in conditions.items()]
    if "similarity" in receipt:
        facts.append(f"similarity {receipt['similarity']:.2f}")
    line = f"{receipt['path']}  ({', '.join(facts)})"
    if "engine_reason" in receipt:
        line += f"\n  engine {receipt['engine']}: {receipt['engine_reason']}"
    return "\n".join([line, *receipt_lines(receipt)])
