"""`melisma inspect`: what an audio, MIDI, token or weights file contains and where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli import options

if TYPE_CHECKING:
    from melisma.files import Provenance


_LONGEST_NOTES = 2_000
"""Maximum number of characters of settings and notes in the text output; `--json` prints all."""


def inspect(
    file: Annotated[
        Path,
        typer.Argument(help="An audio, MIDI (.mid), token (.mlt) or weights (.safetensors) file."),
    ],
    as_json: options.Json = False,
) -> None:
    """Show what a file contains and where it came from."""
    readers = {
        ".mlt": _token_facts,
        ".safetensors": _weight_facts,
        ".mid": _score_facts,
        ".midi": _score_facts,
    }
    facts = readers.get(file.suffix.lower(), _sound_facts)(file)
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    labels = {"tonality": "key"}
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        label = labels.get(name, name.replace("_", " "))
        print(f"{label:<{width}}  {_formatted(value)}")


def _sound_facts(file: Path) -> dict[str, object]:
    from melisma.files import read_audio, read_provenance
    from melisma.sound.loudness import integrated_lufs, true_peak_db

    waveform = read_audio(file)
    provenance = read_provenance(file)
    lufs = integrated_lufs(waveform)
    facts: dict[str, object] = {
        "path": str(file),
        "seconds": round(waveform.seconds, 3),
        "rate_hz": waveform.rate_hz,
        "channels": waveform.samples.shape[0],
        "loudness_lufs": None if lufs is None else round(lufs, 2),
        "true_peak_db": round(true_peak_db(waveform), 2) if waveform.samples.any() else None,
    }
    return facts | _provenance_facts(provenance)


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
        "version": provenance.version,
        "settings": json.loads(provenance.settings),
    }


def _score_facts(file: Path) -> dict[str, object]:
    """Facts of a MIDI file; tempo and key are measured from the notes, not read from events."""
    from melisma.analysis.score.key import measure_score_tonality
    from melisma.analysis.score.tempo import measure_score_tempo
    from melisma.files.provenance import provenance_from_fields
    from melisma.symbolic.events import bars_of
    from melisma.symbolic.instruments import instrument_name
    from melisma.symbolic.midi import midi_bytes, read_midi
    from melisma.symbolic.tags import read_midi_tags

    data = midi_bytes(file)
    score, tags = read_midi(data), read_midi_tags(data)
    felt_bpm = measure_score_tempo(score).bpm
    return {
        "path": str(file),
        "seconds": round(score.seconds, 3),
        "bars": len(bars_of(score)[0]),
        "notes": sum(len(track.notes) for track in score.tracks),
        "parts": [t.name or instrument_name(t.program, t.is_drum) for t in score.tracks],
        "written_tempo_bpm": round(float(score.tempo.bpm[0]), 2),
        "felt_tempo_bpm": None if felt_bpm is None else round(felt_bpm, 1),
        "metre": f"{score.metres[0].numerator}/{score.metres[0].denominator}",
        "tonality": measure_score_tonality(score).tonality,
    } | _provenance_facts(None if tags is None else provenance_from_fields(tags))


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


def _formatted(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "silence"
    if isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False)
        more = len(text) - _LONGEST_NOTES
        return text if more <= 0 else f"{text[:_LONGEST_NOTES]} ... ({more} characters more)"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
