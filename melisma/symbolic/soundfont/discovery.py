"""Finding a soundfont: the one that was asked for, or the best that this system has.

Order: the one given, the environment variable MELISMA_SOUNDFONT, the system's folders, and last the
small one that the package pretty_midi brings.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from melisma.symbolic.soundfont.presets import SoundFont, read_soundfont

VARIABLE = "MELISMA_SOUNDFONT"
"""Environment variable that names a soundfont."""
SYSTEM_FOLDERS: tuple[Path, ...] = (
    Path("/usr/share/sounds/sf2"),
    Path("/usr/share/soundfonts"),
    Path("/usr/share/sounds/sf3"),
    Path("/usr/local/share/sounds/sf2"),
    Path("/usr/local/share/soundfonts"),
    Path("/usr/local/share/sounds/sf3"),
    Path("~/.local/share/sounds/sf2"),
    Path("~/.local/share/soundfonts"),
    Path("~/.local/share/sounds/sf3"),
)
"""Where Debian, Fedora and Arch keep soundfonts, and people their own."""
PREFERRED = (
    "FluidR3_GM", "MuseScore_General", "GeneralUser", "FluidR3", "default", "TimGM6mb",
)  # fmt: skip
"""Beginnings of the names of full General MIDI banks, the best first (chosen by ear)."""


def find_soundfont(given: Path | None = None) -> SoundFont:
    """The soundfont to play with, open.

    One that is given, here or in the environment, must be one: `FileNotFoundError`,
    `IsADirectoryError` or `ValueError` where it is not. Of the system's, those that are damaged or
    lack instruments are passed over; `FileNotFoundError` where none is left.
    """
    if given is not None:
        return read_soundfont(given)
    named = os.environ.get(VARIABLE)
    if named:
        return read_soundfont(Path(named).expanduser())
    for path in system_soundfonts(SYSTEM_FOLDERS):
        bank = _full_bank(path)
        if bank is not None:
            return bank
    brought = packaged_soundfont()
    if brought is not None:
        return read_soundfont(brought)
    raise FileNotFoundError(
        "no soundfont was found on this system: install one (Debian: fluid-soundfont-gm), name a "
        f".sf2 or .sf3 file with --soundfont, or set {VARIABLE}"
    )


def system_soundfonts(folders: Iterable[Path]) -> list[Path]:
    """The soundfonts in these folders, the preferred ones first; missing folders hold none."""
    found = [
        path
        for folder in folders
        for path in _files(folder.expanduser())
        if path.suffix.lower() in (".sf2", ".sf3")
    ]
    return sorted(found, key=lambda path: _rank(path.name))


def packaged_soundfont() -> Path | None:
    """TimGM6mb, which pretty_midi brings; found without importing the package."""
    found = importlib.util.find_spec("pretty_midi")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "TimGM6mb.sf2"
    return path if path.is_file() else None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def _rank(name: str) -> int:
    ranks = (
        rank
        for rank, beginning in enumerate(PREFERRED)
        if name.lower().startswith(beginning.lower())
    )
    return next(ranks, len(PREFERRED))


def _full_bank(path: Path) -> SoundFont | None:
    try:
        bank = read_soundfont(path)
    except (OSError, ValueError):
        return None
    return bank if bank.is_full else None
