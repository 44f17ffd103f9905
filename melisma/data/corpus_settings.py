"""What a folder of shards was made from, compared when it is written into again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from melisma.data.sources.pieces import Source
from melisma.files.shards.stored_settings import expect_same, read_stored, write_stored
from melisma.values.errors import MelismaError

LONGEST_HOURS = 100_000.0
"""Most hours of a corpus (chosen: 17 terabytes)."""


def number_of_clips(hours: float, seconds: float) -> int:
    """Number of clips of `seconds` in a corpus of some hours, rounded; one at least.

    Raises:
        MelismaError: The hours are not positive, or beyond all limits.
    """
    if not 0 < hours <= LONGEST_HOURS:
        raise MelismaError(f"a corpus has up to {LONGEST_HOURS:,.0f} hours, not {hours:g}")
    return max(round(hours * 3600 / seconds), 1)


def sources_description(sources: Iterable[Source]) -> dict[str, Any]:
    """Number and hash of pieces, as JSON values."""
    digest, count = hashlib.sha256(), 0
    for source in sorted(sources, key=lambda source: source.identity):
        fields = {name: value for name, value in vars(source).items() if name != "midi_bytes"}
        digest.update(repr(sorted(fields.items())).encode())
        digest.update(hashlib.sha256(source.midi_bytes).digest())
        count += 1
    return {"pieces": count, "hash": digest.hexdigest()[:12]}


def begin_corpus(
    folder: Path,
    kind: str,
    settings: Mapping[str, Any],
    clips: int | None = None,
    *,
    finished: str | None = None,
) -> None:
    """Stores what a folder is made from, or compares it with what is stored.

    Args:
        folder: The folder, locked.
        kind: Kind of the shards.
        settings: What decides the rows, as JSON values.
        clips: Number of clips that are wanted, which may grow; None where the settings decide it.
        finished: Pattern of the files of finished shards; a folder that has such and no settings
            is refused. None: it is accepted.

    Raises:
        MelismaError: The folder was begun with other settings, with more clips, or by a version
            that did not store them.
    """
    given = {"kind": kind, "settings": dict(settings)}
    wanted = given if clips is None else {**given, "clips": clips}
    stored = read_stored(folder)
    if stored is None:
        if finished is not None and any(folder.glob(finished)):
            raise MelismaError(
                f"{folder} has shards, but not the settings that they were written with (a version "
                "up to 0.5 wrote them): it can be trained on, but not be continued; choose another "
                "folder"
            )
        write_stored(folder, wanted)
        return
    before = stored.pop("clips", None)
    expect_same(folder, stored, given)
    if clips is None or before == clips:
        return
    if not isinstance(before, int) or before > clips:
        raise MelismaError(
            f"{folder} was begun with {before} clips, more than the {clips} that were requested: "
            "give as many hours or more, or choose another folder"
        )
    write_stored(folder, wanted)
