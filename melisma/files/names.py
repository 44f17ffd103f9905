"""Names of files: made from words, limited in bytes, free ones, and what a name leads to.

A file system counts a name in bytes, not in letters. A name may lead elsewhere: a symbolic link to
its target, `/dev/stdout` to an open file of this process, and others to a pipe or a device, into
which one writes and which is never replaced.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_LONGEST_NAME = 60
"""Letters of a name that is made from words (chosen: a line of a listing)."""
_LONGEST_BYTES = 180
"""Bytes of such a name, 60 letters of three bytes; what is added to it must fit into 255 too."""
_USUAL_LIMIT = 255
"""Most bytes of a name where the system does not say (ext4, XFS, APFS, NTFS)."""
_ADDED_BYTES = 24
"""Bytes that are kept for what is added to a name: a number that counts up, and an ending."""
_MOST_LINKS = 40
"""Links that are followed one after another (as Linux does)."""
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_OPEN_FILE = re.compile(r"/(?:dev|proc/(?:self|thread-self|{pid}))/fd/(\d+)")


def slug(words: str, most_bytes: int = _LONGEST_BYTES) -> str:
    """A file name from the words of a prompt, e.g. "a-gentle-waltz".

    Args:
        words: Any text.
        most_bytes: Of the name, as this system encodes it; letters that cannot be encoded in names
            of this system are left out.
    """
    plain = _encodable(re.sub(r"[^\w]+", "-", words.lower())).strip("-_")[:_LONGEST_NAME]
    return shortened(plain, most_bytes).rstrip("-_") or "piece"


def shortened(name: str, most_bytes: int) -> str:
    """The longest beginning of a name that has at most so many bytes."""
    while len(os.fsencode(name)) > most_bytes:
        name = name[:-1]
    return name


def name_limit(folder: Path) -> int:
    """Most bytes of a name in a folder; of the nearest existing one where it is missing."""
    for one in (folder, *folder.absolute().parents):
        if sys.platform != "win32":
            with suppress(OSError, ValueError):
                limit = os.pathconf(one, "PC_NAME_MAX")
                return limit if limit > 0 else _USUAL_LIMIT
    return _USUAL_LIMIT


def stem_bytes(folder: Path) -> int:
    """Most bytes of a name from words in a folder, so that numbers and endings fit after it."""
    return max(8, min(_LONGEST_BYTES, name_limit(folder) - 2 * _ADDED_BYTES))


def free_path(path: Path, taken: Sequence[Path] = ()) -> Path:
    """The path itself if nothing is there, else the first free one of `name-2`, `name-3`, ...

    Args:
        path: What one would like to write.
        taken: Paths that are reserved for others, though nothing is there yet.
    """
    found, number = path, 1
    while os.path.lexists(found) or found in taken:
        number += 1
        ending = f"-{number}{path.suffix}"
        room = name_limit(path.parent) - len(os.fsencode(ending))
        found = path.with_name(shortened(path.stem, room) + ending)
    return found


def destination(path: Path) -> Path:
    """Where a path leads, with all symbolic links followed, dangling ones too.

    Raises:
        OSError: The links lead round in a circle.
    """
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise OSError(f"{path} is a symbolic link that leads back to itself: choose another name")
    return found


def descriptor_of(path: Path) -> int | None:
    """The number of the open file that a name such as /dev/stdout, /dev/fd/63 or a link to one
    stands for; None for every other name."""
    current = os.path.abspath(path)
    pattern = _OPEN_FILE.pattern.replace("{pid}", str(os.getpid()))
    for _ in range(_MOST_LINKS):
        if current in _STANDARD:
            return _STANDARD[current]
        if found := re.fullmatch(pattern, current):
            return int(found[1])
        if not os.path.islink(current):
            return None
        current = os.path.normpath(os.path.join(os.path.dirname(current), os.readlink(current)))
    return None


def is_special(path: Path) -> bool:
    """Whether a path leads to a pipe, a device, a socket or an open file of this process: what is
    written into and never replaced."""
    if descriptor_of(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def expect_file(path: Path) -> None:
    """Raises unless something that is no folder has this name.

    Raises:
        FileNotFoundError: There is nothing.
        IsADirectoryError: It is a folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the name")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file inside it")


def replaced_paths(*paths: Path | object | None) -> list[str]:
    """Which of the paths are files now, and so are replaced when they are written."""
    return [str(one) for one in paths if isinstance(one, Path) and one.is_file()]


def _encodable(text: str) -> str:
    """The text without the letters that names of this system cannot hold."""
    try:
        text.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        return text.encode(sys.getfilesystemencoding(), "ignore").decode(
            sys.getfilesystemencoding(), "ignore"
        )
    return text
