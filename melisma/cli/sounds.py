"""Pieces of sound, drawn, mastered and written: what `melisma generate` does for its sound
engine."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melisma.cli.progress import Progress
from melisma.cli.receipts import original_sound, sound_index, sound_receipt
from melisma.values import Prompt, Waveform

if TYPE_CHECKING:
    from melisma.generation import Piece, SoundComposer
    from melisma.generation.conditioning.audio import AudioConditions

_BATCH = 4
"""Pieces drawn side by side (chosen: more need more memory and are hardly faster on two cores)."""
_CODING_ROUNDS = 6
"""Attempts to keep a lossy file below the ceiling; each takes off all that stood out before."""


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """Everything that was asked for, checked."""

    prompts: list[Prompt]
    places: list[Path]
    pictures: list[Path | None]
    seed: int
    best_of: int | None
    """None: as many as the model likes."""
    rank: str
    receipt: bool
    original: bool
    drawing: dict[str, float | int]
    """Only the drawing settings that were given."""
    melody: Path | None
    beginning: Path | None
    keep_seconds: float
    """How much of the end of `beginning` is kept."""
    model: str
    precision: str | None
    threads: int | None


def open_composer(order: AudioRequest) -> SoundComposer:
    """The composer of an order; says on stderr what a published model's licence allows."""
    from melisma.generation import load
    from melisma.generation.musicgen import MusicGen

    announce(order.model)
    expect_memory(order)
    composer = load(order.model, order.threads, precision=order.precision)
    if isinstance(composer, MusicGen) and order.original:
        raise ValueError(
            f"{composer.name} has no index of what it was trained on, which is not public: leave "
            "out --original"
        )
    return composer


def expect_memory(order: AudioRequest) -> None:
    """`ValueError` before anything is loaded, where what is asked for will not fit in memory."""
    from melisma.engine.resources.hardware import memory
    from melisma.engine.resources.memory import Workload, expect_memory, need_of
    from melisma.files.hub import PUBLISHED, published_folder
    from melisma.generation.catalogue import facts_of
    from melisma.generation.loading import is_published_name

    model = order.model
    if is_published_name(model) and model.split("@")[0] not in PUBLISHED:
        model = str(published_folder(model))  # how large it is is known when it is here
    facts = facts_of(model)
    candidates = order.best_of or facts.usual_candidates
    asked = Workload(
        seconds=order.prompts[0].duration_seconds,
        pieces=min(len(order.prompts), _BATCH) * candidates,
    )
    needed = need_of(facts.sizes, order.precision or facts.usual_precision, asked).bytes
    expect_memory(needed, memory().available_bytes, order.model)


def announce(model: str) -> None:
    """Before anything is fetched or drawn: whose weights these are, and what they may be used
    for."""
    from melisma.generation.loading import is_published_model, is_published_name

    if not is_published_model(model):
        return
    told = f"{model}: published weights of MusicGen, licence CC BY-NC 4.0: no commercial use"
    if is_published_name(model):
        from melisma.files.hub import hub_card

        card = hub_card(model)
        if not card.cached:
            size = "" if card.bytes is None else f" ({card.bytes / 1e9:.1f} GB)"
            told += f"; they are fetched from the hub now{size}"
    print(f"melisma: {told}", file=sys.stderr)


def given_of(order: AudioRequest) -> AudioConditions:
    """The sound that the pieces are given."""
    from melisma.files import read_audio
    from melisma.generation.conditioning.audio import AudioConditions, last_seconds

    beginning = None if order.beginning is None else read_audio(order.beginning)
    return AudioConditions(
        melody=None if order.melody is None else read_audio(order.melody),
        beginning=None if beginning is None else last_seconds(beginning, order.keep_seconds),
    )


def run_audio_request(order: AudioRequest, progress: Progress) -> list[dict[str, object]]:
    """Draw, master and write every piece; a batch is on disk before the next begins."""
    composer = open_composer(order)
    settings = composer.drawing(order.drawing)
    given = given_of(order)
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
            given=given,
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


def drawn_facts(order: AudioRequest, prompt: Prompt, settings: Any) -> dict[str, object]:
    """How a piece is drawn, fit for JSON: what its file says of itself."""
    facts: dict[str, object] = {
        "duration_seconds": prompt.duration_seconds,
        "tempo_bpm": prompt.tempo_bpm,
        "tonality": prompt.tonality,
        "metre": prompt.metre,
        "drawing": asdict(settings),
    }
    if order.melody is not None:
        facts["melody"] = order.melody.name
    if order.beginning is not None:
        facts |= {"continue_from": order.beginning.name, "keep_seconds": order.keep_seconds}
    if order.precision is not None:
        facts["precision"] = order.precision
    return facts


def _write(
    order: AudioRequest,
    number: int,
    piece: Piece,
    composer: SoundComposer,
    settings: Any,
    checked: dict[str, object] | None,
) -> dict[str, object]:
    """Master and write one piece, and return its receipt."""
    from melisma.files import write_audio
    from melisma.generation.requests.provenance import provenance_of
    from melisma.sound.loudness import integrated_lufs, true_peak_db

    place, picture = order.places[number], order.pictures[number]
    sound = finish(piece.waveform, place.suffix)
    drawn = drawn_facts(order, piece.prompt, settings) | {
        "best_of": composer.best_of if order.best_of is None else order.best_of,
        "rank": order.rank,
        "conditions": piece.conditions,
    }
    provenance = provenance_of(composer, piece.prompt.words, piece.seed, drawn)
    write_audio(place, sound, provenance)
    if picture is not None:
        from melisma.analysis.plots.spectrogram import plot_sound

        plot_sound(sound, picture, piece.prompt.words)
    lufs = integrated_lufs(sound)
    peak_db = true_peak_db(sound)
    return {
        "path": str(place),
        "plot": None if picture is None else str(picture),
        "prompt": piece.prompt.words,
        "seed": piece.seed,
        "seconds": round(sound.seconds, 3),
        "rate_hz": sound.rate_hz,
        "similarity": None if piece.similarity is None else round(piece.similarity, 4),
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
    from melisma.files.audio import LOSSY_ENDINGS, decoded_after_coding
    from melisma.sound.loudness import true_peak_db
    from melisma.sound.mastering import CEILING_DB, master

    sound = master(raw)
    if ending.lower() not in LOSSY_ENDINGS:
        return sound
    ceiling_db = CEILING_DB
    for _ in range(_CODING_ROUNDS):
        over_db = true_peak_db(decoded_after_coding(sound, ending)) - CEILING_DB
        if over_db < 0:
            break
        ceiling_db -= over_db + 0.1
        sound = master(raw, ceiling_db=ceiling_db)
    return sound
