"""The places that one call writes, checked against each other before any work.

No file of a call may take the place of another one, or of a file that the call reads: not under
another name, not through a link, and not by capital letters where the file system ignores them.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from melisma.cli.output_paths import PIPE, is_standard_output, made_folders
from melisma.files.names import descriptor_of, destination, is_special
from melisma.values.errors import MelismaError

Key = tuple[object, ...]
"""What identifies a file: its number in the file system, or its place."""

_STEM_NAME = re.compile(r"\d{2,}-.*\.(wav|mid)", re.IGNORECASE)
"""Names that stems have in their folder."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where the pieces of a call go."""

    paths: Sequence[Path]
    """A file, pipe or device for each piece."""
    plots: Sequence[Path | None]
    """The picture of each piece."""
    form: str | None
    """Format of the sound where a name has no ending, e.g. "ogg"."""
    counts_up: bool
    """Whether nothing is replaced: a name that was taken in the meantime counts up."""

    @property
    def ending(self) -> str | None:
        """The format as an ending, e.g. ".ogg"."""
        return None if self.form is None else "." + self.form.lower().removeprefix(".")

    @property
    def are_output(self) -> bool:
        """Whether a piece goes to standard output, on which then nothing else is printed."""
        return any(
            path is not None and is_standard_output(path) for path in [*self.paths, *self.plots]
        )

    def made_folders(self) -> AbstractContextManager[None]:
        """Makes the folders of the files, see `output_paths.made_folders`."""
        return made_folders(*self.paths, *self.plots)


@dataclass(frozen=True, kw_only=True)
class ScoreTargets:
    """Where the scores of a call go, and what comes with them."""

    paths: Sequence[Path]
    """A file, pipe or device for each score."""
    sounds: Sequence[Path | None]
    """The sound of each score."""
    stems: Sequence[Path | None]
    """A folder for the stems of each score."""
    plots: Sequence[Path | None]
    """The picture of each score."""
    counts_up: bool
    """Whether nothing is replaced: a name that was taken in the meantime counts up."""

    @property
    def are_output(self) -> bool:
        """Whether a file goes to standard output, on which then nothing else is printed."""
        return any(path is not None and is_standard_output(path) for path in self._files)

    def made_folders(self) -> AbstractContextManager[None]:
        """Makes the folders of the files, see `output_paths.made_folders`."""
        return made_folders(*self._files)

    @property
    def _files(self) -> list[Path | None]:
        return [*self.paths, *self.sounds, *self.plots]


def check_places(
    places: Mapping[str, Sequence[Path | None]],
    *,
    sources: Mapping[str, Path | None] | None = None,
    folders: Mapping[str, Sequence[Path | None]] | None = None,
    no_clobber: bool = False,
    as_json: bool = False,
) -> None:
    """Checks all places of a call, and begins the list of its finished files.

    Args:
        places: The files that will be written, by the option that names them.
        sources: The files that are read.
        folders: Folders for stems.
        no_clobber: Whether what exists is kept.
        as_json: Whether a JSON document goes to standard output.

    Raises:
        MelismaError: Two places are one, one is inside another, or something exists that is kept.
    """
    from melisma.files.atomic import record_writes

    files = [(name, path) for name, paths in places.items() for path in paths if path is not None]
    rooms = [
        (name, path)
        for name, paths in (folders or {}).items()
        for path in paths
        if path is not None
    ]
    if as_json and any(is_standard_output(path) for _, path in files):
        raise MelismaError(
            "--json and the bytes of a file cannot both go to standard output: give a file name, "
            "or leave out --json"
        )
    found: dict[Key, tuple[str, Path]] = {}
    for name, path in (sources or {}).items():
        if path is not None:
            found |= dict.fromkeys(keys_of(path), (name, path))
    for name, path in [*files, *rooms]:
        for key in (keys := keys_of(path)):
            if key in found:
                _refuse_same(name, path, *found[key])
        found |= dict.fromkeys(keys, (name, path))
    _check_inside(files, rooms)
    if no_clobber:
        _check_new(files, rooms)
    record_writes()


def keys_of(path: Path) -> list[Key]:
    """What a place is known by; nothing for a device, into which several may be written."""
    number = 1 if path == PIPE else descriptor_of(path)
    if number is not None:
        return [("open file", number)]
    try:
        status = path.stat()
    except OSError:
        status = None
    if status is not None and (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        return []
    place = destination(path)
    name = unicodedata.normalize("NFC", str(place))
    keys: list[Key] = [("name", name.casefold() if ignores_case(place.parent) else name)]
    if status is not None:
        keys.append(("file", status.st_dev, status.st_ino))
    return keys


def ignores_case(folder: Path) -> bool:
    """Whether a file system takes capital and small letters for the same, as those of macOS and
    Windows do; found out by the name of the folder, or of one above it on the same device."""
    try:
        device = folder.stat().st_dev
        for one in (folder, *folder.parents):
            if one.stat().st_dev != device:
                return False
            swapped = one.with_name(one.name.swapcase()) if one.name else one
            if swapped != one:
                return os.path.exists(swapped) and os.path.samefile(one, swapped)
    except OSError:
        pass
    return False


def _refuse_same(name: str, path: Path, other_name: str, other: Path) -> None:
    if name == other_name:
        raise MelismaError(f"{path} and {other} of {name} are one file: choose other names")
    raise MelismaError(f"{name} {path} is the same file as {other_name} {other}: choose another")


def _check_inside(files: list[tuple[str, Path]], rooms: list[tuple[str, Path]]) -> None:
    """Raises `MelismaError` where a file would be a folder, or a file be among the stems."""
    resolved = [(name, path, destination(path)) for name, path in files if not is_special(path)]
    for name, path, place in resolved:
        for other_name, other in [*files, *rooms]:
            if place in destination(other).parents:
                raise MelismaError(
                    f"{other_name} {other} lies inside {name} {path}, which is a file: choose "
                    "another place"
                )
        for other_name, room in rooms:
            if place.parent == destination(room) and _STEM_NAME.fullmatch(place.name):
                raise MelismaError(
                    f"{name} {path} is called like one of the {other_name.strip('-')} in its "
                    "folder: choose another name"
                )


def _check_new(files: list[tuple[str, Path]], rooms: list[tuple[str, Path]]) -> None:
    for _, path in files:
        if path != PIPE and path.exists() and not is_special(path):
            raise MelismaError(f"{path} exists and is kept (--no-clobber): choose another name")
    for _, room in rooms:
        if room.is_dir() and any(room.iterdir()):
            raise MelismaError(
                f"the folder {room} is not empty and is kept (--no-clobber): choose another"
            )
