"""`melisma inspect`: what an audio, MIDI, token or weights file contains and where it came from.

A file is what its first bytes say, whatever its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import input_file
from melisma.cli.receipts import print_json
from melisma.values.errors import MelismaError

if TYPE_CHECKING:
    from melisma.files import Provenance
    from melisma.values import Score


_LONGEST_NOTES = 2_000
"""Maximum number of characters of settings and notes in the text output; `--json` prints all."""


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="An audio, MIDI, token (.mlt) or weights (.safetensors) file, or the card of an "
            "evaluation; its name does not matter; - for standard input.",
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Show what a file contains and where it came from."""
    opened = input_file(file)
    facts = _reader_of(opened)(opened) | {"path": str(file)}
    if as_json:
        print_json(facts)
        return
    shown = [
        name
        for name, value in facts.items()
        if name != "beat" and value != [] and not (name in _CHANGES and len(_list(value)) < 2)
    ]
    lines = {_LABELS.get(name, name.replace("_", " ")): name for name in shown}
    width = max(map(len, lines))
    for label, name in lines.items():
        print(f"{label:<{width}}  {_formatted(name, facts)}")


_LABELS = {
    "tonality": "key",
    "melisma": "made by Melisma",
    "tempo_bpm": "tempo",
    "tempi_bpm": "tempi",
    "written_tempo_bpm": "written tempo",
    "felt_tempo_bpm": "measured tempo",
    "metre": "time signature",
    "loudness_lufs": "loudness",
    "true_peak_db": "true peak",
    "rate_hz": "sample rate",
}
"""Names of facts for people, where they are not those of the JSON."""
_CHANGES = ("tempi_bpm", "metres", "keys")
"""Facts of a piece that are shown to people where it has several of them."""
_UNITS = {"loudness_lufs": "LUFS", "true_peak_db": "dB", "rate_hz": "Hz", "seconds": "s"}


def _reader_of(file: Path) -> Callable[[Path], dict[str, object]]:
    """The function that reads a file of this kind.

    Raises:
        MelismaError: It is a folder, or of a kind that holds no music.
        OSError: It cannot be read.
    """
    from melisma.files.audio.formats import HEAD_BYTES, MIDI_ENDINGS, format_of
    from melisma.files.names import expect_file
    from melisma.files.tokens import MAGIC

    expect_file(file)
    head = b""
    if file.is_file():  # of a pipe, bytes that are looked at would be gone
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    found = format_of(head)
    if head.startswith(MAGIC):
        return _token_facts
    if len(head) > 8 and head[8:9] == b"{" and head[7] == 0:  # length of a JSON header, then it
        return _weight_facts
    if head.lstrip()[:1] == b"{":
        return _card_facts
    if found is not None and found.name != "text":
        if found.group == "notes":
            return _score_facts
        if found.group == "no sound":
            raise MelismaError(
                f"{file} is {found.name}: there is nothing in it that is shown here; give an "
                "audio, MIDI, token or weights file"
            )
        return _sound_facts
    # What nobody recognises gets the sentence of the reader that its name calls for.
    named = {".mlt": _token_facts, ".safetensors": _weight_facts}
    named |= dict.fromkeys(MIDI_ENDINGS, _score_facts)
    return named.get(file.suffix.lower(), _sound_facts)


def _sound_facts(file: Path) -> dict[str, object]:
    from melisma.files import read_provenance
    from melisma.recordings import measure_recording

    found = measure_recording(file)
    lufs, peak_db = found.loudness_lufs, found.true_peak_db
    facts: dict[str, object] = {
        "path": str(file),
        "seconds": round(found.seconds, 3),
        "rate_hz": found.rate_hz,
        "channels": found.channels,
        "loudness_lufs": None if lufs is None else round(lufs, 2),
        "true_peak_db": round(peak_db, 2) if math.isfinite(peak_db) else None,
        "remarks": list(found.remarks),
    }
    return facts | _provenance_facts(read_provenance(file))


def _provenance_facts(provenance: Provenance | None) -> dict[str, object]:
    if provenance is None:
        return {"melisma": False}
    return {
        "melisma": True,
        "ai_generated": provenance.ai_generated,
        "prompt": provenance.prompt,
        "seed": provenance.seed,
        "model": provenance.model,
        "fingerprint": provenance.fingerprint,
        "licence": provenance.licence,
        "rights": provenance.rights,
        "version": provenance.version,
        "settings": json.loads(provenance.settings),
    }


def _score_facts(file: Path) -> dict[str, object]:
    """Facts of a MIDI file. "tempo_bpm" counts felt beats and "written_tempo_bpm" quarter notes of
    the first tempo; "felt_tempo_bpm" and the key are measured from the notes."""
    from melisma.analysis.score.key import measure_score_tonality
    from melisma.analysis.score.tempo import measure_score_tempo
    from melisma.files.provenance import provenance_from_fields
    from melisma.symbolic.events import bars_of
    from melisma.symbolic.instruments import instrument_name
    from melisma.symbolic.midi import midi_bytes, read_midi
    from melisma.symbolic.tags import read_midi_tags
    from melisma.values.score_prompt import beat_name, felt_beat

    data = midi_bytes(file)
    score, tags = read_midi(data), read_midi_tags(data)
    felt_bpm = measure_score_tempo(score).bpm
    metre = (score.metres[0].numerator, score.metres[0].denominator)
    written_bpm = float(score.tempo.bpm[0])
    return {
        "path": str(file),
        "seconds": round(score.seconds, 3),
        "bars": len(bars_of(score)[0]),
        "notes": sum(len(track.notes) for track in score.tracks),
        "parts": [t.name or instrument_name(t.program, t.is_drum) for t in score.tracks],
        "tempo_bpm": round(written_bpm / felt_beat(metre), 2),
        "beat": beat_name(metre),
        "written_tempo_bpm": round(written_bpm, 2),
        "felt_tempo_bpm": None if felt_bpm is None else round(felt_bpm, 1),
        "metre": f"{metre[0]}/{metre[1]}",
        "tonality": measure_score_tonality(score).tonality,
        **_changes(score),
        **_score_texts(score),
    } | _provenance_facts(None if tags is None else provenance_from_fields(tags))


def _changes(score: Score) -> dict[str, object]:
    """All tempi in felt beats, metres and key signatures of a score, each once, in the order in
    which they come first."""
    from melisma.values.attributes import PITCH_NAMES
    from melisma.values.score_prompt import felt_beat

    tempi = list[float]()
    for beat, bpm in zip(score.tempo.beats, score.tempo.bpm, strict=True):
        metre = [one for one in score.metres if one.beat <= beat or one is score.metres[0]][-1]
        tempi.append(round(float(bpm) / felt_beat((metre.numerator, metre.denominator)), 2))
    keys = [
        f"{PITCH_NAMES[(7 * key.sharps - 3 * key.is_minor) % 12]} "
        f"{'minor' if key.is_minor else 'major'}"
        for key in score.keys
    ]
    metres = [f"{one.numerator}/{one.denominator}" for one in score.metres]
    found = {"tempi_bpm": tempi, "metres": metres, "keys": keys}
    return {name: list(dict.fromkeys(values)) for name, values in found.items()}


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _score_texts(score: Score) -> dict[str, object]:
    """Title, notice and remarks of a score, as far as it has them."""
    notices = [one.text.strip() for one in score.texts if one.kind == "copyright"]
    facts = {"title": score.title, "copyright": notices, "remarks": list(score.remarks)}
    return {name: fact for name, fact in facts.items() if fact}


def _token_facts(file: Path) -> dict[str, object]:
    from melisma.files import read_tokens
    from melisma.files.tokens import token_bits

    grid = read_tokens(file)
    levels, frames = grid.tokens.shape
    return {
        "path": str(file),
        "seconds": round(grid.seconds, 3),
        "levels": levels,
        "frames": frames,
        "vocabulary": grid.vocabulary,
        "frame_rate_hz": grid.frame_rate_hz,
        "bits_per_second": levels * grid.frame_rate_hz * token_bits(grid.vocabulary),
        "fingerprint": grid.fingerprint,
    }


def _weight_facts(file: Path) -> dict[str, object]:
    from melisma.files.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(file)
    return {
        "path": str(file),
        "kind": checkpoint.kind,
        "weights": sum(tensor.numel() for tensor in checkpoint.tensors.values()),
        "bytes": file.stat().st_size,
        "settings": checkpoint.settings,
        "fingerprints": checkpoint.fingerprints,
        "notes": checkpoint.notes,
    }


def _card_facts(file: Path) -> dict[str, object]:
    """Facts of the card of an evaluation."""
    from melisma.evaluate.report.card import CARD_KIND, read_card

    card = read_card(file)
    return {
        "path": str(file),
        "kind": CARD_KIND,
        "subject": card.protocol.subject,
        "reference": card.protocol.reference or "none",
        "figures": {row.figure.what: row.figure.value for row in card.rows},
    }


def _formatted(name: str, facts: Mapping[str, object]) -> str:
    """A fact for people."""
    value = facts[name]
    if name == "tempo_bpm":
        beat = "" if facts["beat"] == "quarter" else f" (beat: {facts['beat']})"
        return f"{value:g} bpm{beat}"
    if name == "written_tempo_bpm":
        return f"{value:g} quarter notes a minute"
    if name == "tempi_bpm":
        tempi = [float(str(one)) for one in _list(value)]
        return f"{len(tempi)} tempi, {min(tempi):g} to {max(tempi):g} bpm"
    if name == "felt_tempo_bpm" and value is not None:
        return f"{value:g} bpm, by the notes"
    if name == "melisma" and value is False:
        return "no, or its tags were removed"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "silence" if name in ("loudness_lufs", "true_peak_db") else "unclear"
    if name in _UNITS:
        return f"{value} {_UNITS[name]}"
    if isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False)
        more = len(text) - _LONGEST_NOTES
        return text if more <= 0 else f"{text[:_LONGEST_NOTES]} ... ({more} characters more)"
    if isinstance(value, list):
        return ("; " if name == "remarks" else ", ").join(map(str, value))
    return str(value)
