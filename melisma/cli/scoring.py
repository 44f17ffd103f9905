"""Composing and writing scores, for the verbs that do so: one order, everything written or nothing.

Enters: a `ScoreRequest`, checked. Leaves: MIDI files with their provenance, and on request sound,
stems and pictures; a receipt of each piece.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melisma.cli.progress import Progress
from melisma.cli.receipts import original_score, receipt_lines, score_index, score_receipt
from melisma.values.score_prompt import ScorePrompt

if TYPE_CHECKING:
    from melisma.files import Provenance
    from melisma.generation import ScoreComposer, ScorePiece, ScoreSampling

_BATCH = 4
"""Pieces drawn side by side, each with its candidates (chosen)."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """Everything that was asked for."""

    words: list[str]
    """One for each piece."""
    wish: dict[str, Any]
    """The exact settings of `ScorePrompt` that were given."""
    instruments: str | None
    continue_from: Path | None
    infill: tuple[int, int] | None
    melody: Path | None
    seed: int
    best_of: int
    receipt: bool
    original: bool
    drawing: dict[str, float | int]
    """Only the drawing settings that were given."""
    model: str
    threads: int | None
    places: list[Path]
    """Where each score goes."""
    sounds: list[Path | None]
    pictures: list[Path | None]
    stems: list[Path | None]
    soundfont: Path | None
    room: str

    def check(self) -> None:
        """Raises the sentence about what does not go together, before anything heavy is loaded."""
        from melisma.sound.reverberation import ROOMS

        if self.room not in ROOMS:
            raise ValueError(f'no room "{self.room}": known are {", ".join(ROOMS)}')
        if self.infill is not None and self.continue_from is None:
            raise ValueError("--infill fills bars of a piece: name it with --continue-from")
        if self.melody is not None and self.continue_from is not None:
            raise ValueError("--melody and --continue-from exclude each other: give one of them")
        if self.melody is not None and "bars" in {k for k, v in self.wish.items() if v is not None}:
            raise ValueError("--bars: an accompaniment is as long as its melody, leave it out")
        begun = self.melody is not None or self.continue_from is not None
        for text in self.words if not (begun or self.instruments) else ():
            ScorePrompt(words=text, **self.wish)
        for path in (self.melody, self.continue_from):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"there is no file {path}: check the name")


def run_score_request(order: ScoreRequest, progress: Progress) -> list[dict[str, object]]:
    """Compose and write every piece; a batch is on disk before the next begins."""
    from melisma.generation import ScoreSampling, ScoreTerms, load_scores
    from melisma.generation.score.instrumentation import programs_of
    from melisma.symbolic.midi import midi_bytes, read_midi

    programs = () if order.instruments is None else programs_of(order.instruments)
    begun = order.melody is not None or order.continue_from is not None
    prompts = [
        ScorePrompt(words=text, programs=programs, has_prefix=begun, **order.wish)
        for text in order.words
    ]
    terms = ScoreTerms(
        continue_from=None
        if order.continue_from is None
        else read_midi(midi_bytes(order.continue_from)),
        infill_bars=order.infill,
        melody=None if order.melody is None else read_midi(midi_bytes(order.melody)),
    )
    composer = load_scores(order.model, order.threads)
    settings = replace(ScoreSampling(), **order.drawing)
    index = score_index(order.model) if order.original else None
    receipts = []

    def draw(batch: list[ScorePrompt], seed: int, progress: Progress | None) -> list[ScorePiece]:
        return composer.compose(
            batch,
            terms=terms,
            seed=seed,
            settings=settings,
            best_of=order.best_of,
            progress=progress,
        )

    for first in range(0, len(prompts), _BATCH):
        batch = prompts[first : first + _BATCH]

        def tell(part: float, first: int = first, size: int = len(batch)) -> None:
            progress((first + part * size) / len(prompts))

        for number, piece in enumerate(draw(batch, order.seed + first, tell), start=first):
            checked: dict[str, object] | None = None
            if index is not None:
                prompt = piece.prompt
                found = original_score(piece, lambda s, p=prompt: draw([p], s, None)[0], index)
                piece, checked = found.piece, found.as_json()
            row = _write(order, number, piece, composer, settings)
            measured = {"receipt": score_receipt(piece)} if order.receipt else {}
            compared = {} if checked is None else {"original": checked}
            receipts.append(row | measured | compared)
    return receipts


def _write(
    order: ScoreRequest,
    number: int,
    piece: ScorePiece,
    composer: ScoreComposer,
    settings: ScoreSampling,
) -> dict[str, object]:
    """Write one piece in all its forms, and return its receipt."""
    from melisma.files import write_bytes
    from melisma.generation.requests.provenance import provenance_of
    from melisma.symbolic import write_midi
    from melisma.symbolic.events import bars_of
    from melisma.symbolic.tags import write_midi_tags

    drawn = {
        "settings": {k: v for k, v in asdict(piece.prompt).items() if k != "words"},
        "best_of": order.best_of,
        "drawing": asdict(settings),
        "conditions": piece.conditions,
        "continue_from": None if order.continue_from is None else order.continue_from.name,
        "infill": order.infill,
        "melody": None if order.melody is None else order.melody.name,
    }
    provenance = provenance_of(composer, piece.prompt.words, piece.seed, drawn)
    tagged = write_midi_tags(write_midi(piece.score), provenance.fields())
    sounded = _sound(order, number, piece, provenance)
    write_bytes(order.places[number], tagged)
    picture = order.pictures[number]
    if picture is not None:
        from melisma.analysis.plots.piano_roll import plot_piano_roll

        plot_piano_roll(piece.score, picture, piece.prompt.words)
    score = piece.score
    return {
        "path": str(order.places[number]),
        "plot": None if picture is None else str(picture),
        "prompt": piece.prompt.words,
        "seed": piece.seed,
        "seconds": round(score.seconds, 3),
        "bars": len(bars_of(score)[0]),
        "notes": sum(len(track.notes) for track in score.tracks),
        "parts": [track.name for track in score.tracks],
        "conditions": piece.conditions,
        "measured": piece.kept.shown(),
        "candidates": [round(candidate, 4) for candidate in piece.candidates],
        "sound": sounded,
        "model": composer.name,
        "fingerprint": composer.fingerprint,
        "licence": composer.licence,
        "ai_generated": True,
        "settings": drawn,
    }


def _sound(
    order: ScoreRequest, number: int, piece: ScorePiece, provenance: Provenance
) -> dict[str, object] | None:
    """The sound and the stems, where they are wanted."""
    from melisma.cli.sounding import RenderRequest, sound_score

    if order.sounds[number] is None and order.stems[number] is None:
        return None
    return sound_score(
        RenderRequest(
            score=piece.score,
            provenance=provenance,
            title=piece.prompt.words,
            place=order.sounds[number],
            picture=None,
            stems=order.stems[number],
            soundfont=order.soundfont,
            room=order.room,
        )
    )


def score_line(receipt: dict[str, object]) -> str:
    """One line about a piece for a person."""
    conditions, sound = receipt["conditions"], receipt["sound"]
    assert isinstance(conditions, dict)
    facts = [f"{receipt['seconds']:g} s", f"{receipt['bars']} bars", f"seed {receipt['seed']}"]
    facts += [f"{name} {value}" for name, value in conditions.items()]
    line = f"{receipt['path']}  ({', '.join(facts)})"
    if isinstance(sound, dict) and sound["path"] is not None:
        line += f"\n{sound['path']}  ({sound['seconds']:g} s, {Path(sound['soundfont']).name})"
    if isinstance(sound, dict) and sound["stems"]:
        line += f"\n{Path(sound['stems'][0]).parent}  ({len(sound['stems']) // 2} stems)"
    return "\n".join([line, *receipt_lines(receipt)])
