"""`melisma generate`: from words to sound files."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import melisma
from melisma.cli import options
from melisma.cli.arguments import (
    LARGEST_SEED,
    MOST_CANDIDATES,
    MOST_PIECES,
    check_model,
    check_precision,
    gather_words,
    make_prompts,
    real,
    whole,
)
from melisma.cli.output_paths import PIPE, audio_places, picture_places
from melisma.cli.progress import Progress, progress_bar
from melisma.cli.receipts import receipt_lines
from melisma.cli.sounds import AudioRequest, run_audio_request

KEPT_SECONDS = 10.0
"""How much of the end of `--continue-from` is kept, where nothing is said (MusicLM and MusicGen go
on from as much or less)."""


def generate(
    prompts: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    duration: options.Duration = 10.0,
    seed: options.Seed = None,
    output: options.Output = None,
    count: options.Count = 1,
    best_of: options.BestOf = None,
    rank: options.Rank = "words",
    receipt: options.Receipt = False,
    original: options.Original = False,
    bpm: options.Bpm = None,
    key: options.Key = None,
    metre: options.Metre = None,
    melody: options.Tune = None,
    continue_from: options.GoOnFrom = None,
    keep_seconds: options.KeepSeconds = None,
    guidance: options.Guidance = None,
    guidance_coarse: options.GuidanceCoarse = None,
    temperature_semantic: options.TemperatureSemantic = None,
    top_k_semantic: options.TopKSemantic = None,
    temperature_coarse: options.TemperatureCoarse = None,
    top_k_coarse: options.TopKCoarse = None,
    temperature_fine: options.TemperatureFine = None,
    temperature: options.SoundTemperature = None,
    top_k: options.SoundTopK = None,
    top_p: options.SoundTopP = None,
    stream: options.Stream = False,
    engine: options.Engine = "sound",
    model: options.Model = "default",
    precision: options.Precision = None,
    form: options.Format = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Make music from words, a tune or a beginning."""
    words = gather_words(prompts or [], prompts_file)
    wishes = make_prompts(
        words, count=count, duration_seconds=duration, tempo_bpm=bpm, key=key, metre=metre
    )
    whole("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    whole("--best-of", best_of, 1, MOST_CANDIDATES)
    whole("--threads", threads, 1, 1024)
    drawing = _drawing(
        {
            "guidance": guidance,
            "guidance_coarse": guidance_coarse,
            "temperature_semantic": temperature_semantic,
            "temperature_coarse": temperature_coarse,
            "temperature_fine": temperature_fine,
            "top_k_semantic": top_k_semantic,
            "top_k_coarse": top_k_coarse,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
        }
    )
    check_model(model)
    check_precision(precision)
    check_engine(engine, drawing, rank)
    check_given(engine, melody, continue_from, keep_seconds)
    seed = secrets.randbelow(2**31) if seed is None else seed
    piped = stream and output == str(PIPE)
    names = [wish.words for wish in wishes]
    order = AudioRequest(
        prompts=wishes,
        places=[PIPE] * len(wishes) if piped else audio_places(output, form, names, seed),
        pictures=picture_places(plot, len(wishes)),
        seed=seed,
        best_of=best_of,
        rank=rank,
        receipt=receipt,
        original=original,
        drawing=drawing,
        melody=melody,
        beginning=continue_from,
        keep_seconds=KEPT_SECONDS if keep_seconds is None else keep_seconds,
        model=model,
        precision=precision,
        threads=threads,
    )
    receipts = _fulfilled(order, engine, stream=stream, quiet=quiet)
    if not piped:
        _tell(receipts, as_json=as_json, quiet=quiet)


def _fulfilled(
    order: AudioRequest, engine: str, *, stream: bool, quiet: bool
) -> list[dict[str, object]]:
    """Makes everything and returns the receipts."""
    if stream:
        from melisma.cli.listening import check_stream, run_stream

        check_stream(order, engine)
        return [run_stream(order, quiet=quiet)]
    with progress_bar("composing", quiet=quiet) as progress:
        return _fulfil_by(engine, order, progress)


def _tell(receipts: list[dict[str, object]], *, as_json: bool, quiet: bool) -> None:
    """Receipts for machines, or a line for each piece."""
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


def check_given(
    engine: str, melody: Path | None, beginning: Path | None, keep_seconds: float | None
) -> None:
    """Raise unless the files are there, and only what draws sound is given them."""
    for option, path in (("--melody", melody), ("--continue-from", beginning)):
        if path is None:
            continue
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}: {option} takes a sound file")
        if engine != "sound":
            raise ValueError(
                f"{option} takes sound for the engine that draws sound: leave out --engine "
                f"{engine}, or use `melisma compose` with a MIDI file"
            )
    if keep_seconds is not None and beginning is None:
        raise ValueError("--keep-seconds says how much of --continue-from is kept: give a file")
    real("--keep-seconds", keep_seconds, 0.5, 60.0)


def _fulfil_by(engine: str, order: AudioRequest, progress: Progress) -> list[dict[str, object]]:
    """Every piece by its engine; neighbours of one engine are drawn together."""
    chosen = [(engine, "")] * len(order.prompts)
    if engine == "auto":
        from melisma.generation.requests.routing import favoured_engine

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

        fulfil = _fulfil_scores if chosen[first][0] == "score" else run_audio_request
        for receipt, (name, why) in zip(fulfil(part, tell), chosen[first:stop], strict=True):
            receipts.append(receipt | {"engine": name} | ({"engine_reason": why} if why else {}))
    return receipts


def _fulfil_scores(order: AudioRequest, progress: Progress) -> list[dict[str, object]]:
    """The pieces as scores, rendered; the scores themselves lie beside the sound."""
    from melisma.cli.scoring import ScoreRequest, run_score_request

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
        (receipt,) = run_score_request(
            ScoreRequest(
                words=[prompt.words],
                wish=wish,
                instruments=None,
                continue_from=None,
                infill=None,
                melody=None,
                seed=order.seed + number,
                best_of=8 if order.best_of is None else order.best_of,
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
        option = "--" + name.replace("_", "-")
        if name.startswith("top_k"):
            least = 0 if name == "top_k" else 1
            whole(option, None if number is None else int(number), least, 65_536)
        elif name == "top_p":
            real(option, number, 1e-6, 1.0)
        elif name.startswith("guidance"):
            real(option, number, 0.0, 20.0)
        else:
            real(option, number, 0.01, 5.0)
    return {name: number for name, number in given.items() if number is not None}


def _line(receipt: dict[str, object]) -> str:
    """One line about a piece for a person."""
    conditions = receipt["conditions"]
    assert isinstance(conditions, dict)
    facts = [f"{receipt['seconds']:g} s", f"seed {receipt['seed']}"]
    facts += [f"{name} {value}" for name, value in conditions.items()]
    if receipt.get("similarity") is not None:
        facts.append(f"similarity {receipt['similarity']:.2f}")
    if receipt.get("first_sound_seconds") is not None:
        facts.append(f"first sound after {receipt['first_sound_seconds']:.2f} s")
    line = f"{receipt['path']}  ({', '.join(facts)})"
    if "engine_reason" in receipt:
        line += f"\n  engine {receipt['engine']}: {receipt['engine_reason']}"
    return "\n".join([line, *receipt_lines(receipt)])
