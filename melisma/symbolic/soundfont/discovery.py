"""Discovery of a SoundFont: the requested one, or the best on this system.

Order: the given path, the environment variable MELISMA_SOUNDFONT, the system's folders, and last
the small SoundFont in the package pretty_midi.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from melisma.symbolic.soundfont.presets import SoundFont, read_soundfont
from melisma.values.errors import MelismaError

VARIABLE = "MELISMA_SOUNDFONT"
"""Environment variable with the path of a SoundFont."""
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
"""Standard folders of SoundFonts on Debian, Fedora and Arch, and in home directories."""
PREFERRED = (
    "FluidR3_GM", "MuseScore_General", "GeneralUser", "FluidR3", "default", "TimGM6mb",
)  # fmt: skip
"""Prefixes of the names of full General MIDI banks, the best first (chosen by listening)."""


def find_soundfont(given: Path | None = None) -> SoundFont:
    """Finds and opens a SoundFont.

    SoundFonts in the system's folders that are damaged or lack instruments are skipped.

    Args:
        given: Requested file; None: the environment variable, or the best of the system.

    Raises:
        FileNotFoundError: The requested file is missing, or the system has no SoundFont.
        IsADirectoryError: The requested path is a folder.
        MelismaError: The requested file is no SoundFont.
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
    packaged = packaged_soundfont()
    if packaged is not None:
        return read_soundfont(packaged)
    raise FileNotFoundError(
        "no soundfont was found on this system: install one (Debian: fluid-soundfont-gm), name a "
        f".sf2 or .sf3 file with --soundfont, or set {VARIABLE}"
    )


def system_soundfonts(folders: Iterable[Path]) -> list[Path]:
    """SoundFonts in the given folders, the preferred ones first; missing folders are skipped."""
    found = [
        path
        for folder in folders
        for path in _files(folder.expanduser())
        if path.suffix.lower() in (".sf2", ".sf3")
    ]
    return sorted(found, key=lambda path: _rank(path.name))


def packaged_soundfont() -> Path | None:
    """Path of TimGM6mb in the package pretty_midi, found without importing the package."""
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
    except (OSError, MelismaError):
        return None
    return bank if bank.is_full else None
