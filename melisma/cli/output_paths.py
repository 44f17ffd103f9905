"""Output paths of the pieces, from `--output`, `--format` and the number of pieces.

A file that the user names is replaced if it exists; a name that the program chooses is free, and
counts up where it is taken. A folder is made where its name ends with a slash. "-" is standard
output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from melisma.files.names import descriptor_of, free_path, is_special, slug, stem_bytes
from melisma.values.errors import MelismaError, unknown_name

PIPE = Path("-")
"""Standard output, for audio that is played while it is generated."""
STANDARD_OUTPUT = Path("/dev/stdout")
"""Standard output, for files that are written when they are complete."""

_SEPARATORS = ("/", os.sep)


def is_folder(output: str | None) -> bool:
    """Whether an output is an existing folder, or is named as one by a slash at its end."""
    return output is not None and (output.endswith(_SEPARATORS) or os.path.isdir(output))


def chooses_names(output: str | None) -> bool:
    """Whether the program chooses the names of the files: no file is named."""
    return output is None or is_folder(output)


def audio_paths(
    output: str | None, ending: str | None, prompts: Sequence[str], seed: int
) -> list[Path]:
    """Paths of the audio files.

    Args:
        output: A file (numbered if there are several pieces), a pipe or device, "-", a folder, or
            None for file names from the prompts in the current folder.
        ending: File name extension, e.g. "wav", if `output` has none.
        prompts: The prompt of each piece.
        seed: Of the first piece.

    Returns:
        A path per prompt.

    Raises:
        MelismaError: The format is unknown or contradictory.
        OSError: Nothing can be written there.
    """
    from melisma.files.audio import AUDIO_ENDINGS, check_audio_path

    allowed = [known.removeprefix(".") for known in AUDIO_ENDINGS]
    if ending is not None and ending.lower().removeprefix(".") not in allowed:
        raise MelismaError(unknown_name("format", ending, allowed))
    suffix = "." + (ending or "wav").lower().removeprefix(".")
    if output is None or is_folder(output):
        return chosen_paths(output, suffix, prompts, seed)
    if special := special_path(output, len(prompts)):
        return [special]
    path = Path(output)
    if not path.suffix and ending is None:
        raise MelismaError(
            f"{output} is neither an existing folder nor a file name with an extension: end it "
            f"with / to have the folder made, or add one of {', '.join(AUDIO_ENDINGS)}"
        )
    if not path.suffix:
        path = path.with_name(path.name + suffix)
    if ending is not None and path.suffix.lower() != suffix:
        raise MelismaError(
            f'the output {path.name} and the format "{ending}" differ: give only one of them'
        )
    paths = numbered(path, len(prompts))
    for one in paths:
        check_audio_path(one)
    return paths


def midi_paths(output: str | None, prompts: Sequence[str], seed: int) -> list[Path]:
    """Paths of the MIDI files, one per prompt, like `audio_paths`.

    Raises:
        MelismaError: `output` is no name of a MIDI file.
        OSError: Nothing can be written there.
    """
    from melisma.files.atomic import check_writable

    if output is None or is_folder(output):
        return chosen_paths(output, ".mid", prompts, seed)
    if special := special_path(output, len(prompts)):
        return [special]
    path = Path(output)
    if path.suffix.lower() not in (".mid", ".midi"):
        raise MelismaError(
            f"scores are written as MIDI files: {path.name} must end in .mid or be a folder (with "
            "/ at its end it is made); use --audio for an audio file"
        )
    paths = numbered(path, len(prompts))
    for one in paths:
        check_writable(one)
    return paths


def stem_paths(stems: Path | None, paths: Sequence[Path]) -> list[Path | None]:
    """Folders of the stems, one per piece: `stems` itself, or a folder inside it for each of
    several pieces. None for each piece if `stems` is None.

    Raises:
        MelismaError: `stems` is a file.
        OSError: Nothing can be written there.
    """
    from melisma.files.atomic import check_writable

    if stems is None:
        return [None] * len(paths)
    if stems.exists() and not stems.is_dir():
        raise MelismaError(f"{stems} is a file: the stems need a folder")
    check_writable(stems / "stem.wav" if stems.exists() else stems)
    if len(paths) == 1:
        return [stems]
    return [stems / one.stem for one in paths]


def plot_paths(plot: str | None, count: int, names: Sequence[Path] = ()) -> list[Path | None]:
    """Paths of the plots, one per piece; None for each if `plot` is None.

    Args:
        plot: A file, which is numbered if there are several pieces, or a folder.
        count: Number of pieces.
        names: Paths of the pieces, after which plots in a folder are called.

    Raises:
        MelismaError: The name does not end in `.png`.
        OSError: Nothing can be written there.
    """
    from melisma.files.atomic import check_writable

    if plot is None:
        return [None] * count
    if is_folder(plot):
        stems = [path.stem for path in names] or ["plot"] * count
        return list(in_folder(plot, [f"{stem}.png" for stem in stems]))
    if special := special_path(plot, count):
        return [special]
    path = Path(plot)
    if path.suffix.lower() != ".png":
        raise MelismaError(f"plots are written as PNG: {path.name} must end in .png")
    paths = numbered(path, count)
    for one in paths:
        check_writable(one)
    return list(paths)


def companion_path(target: str, source: Path, ending: str, check: Callable[[Path], None]) -> Path:
    """The one file that a verb makes of another: as named, or called like its source where a
    folder or standard output is given.

    Args:
        target: A file, a folder, a pipe or device, or "-".
        source: The file that it is made of.
        ending: Of its name in a folder, with the dot.
        check: Raises unless the named file could be written.

    Raises:
        MelismaError: As `check`.
        OSError: Nothing can be written there.
    """
    if is_folder(target):
        return in_folder(target, [f"{source.stem}{ending}"])[0]
    if special := special_path(target, 1):
        return special
    check(Path(target))
    return Path(target)


def chosen_paths(output: str | None, suffix: str, prompts: Sequence[str], seed: int) -> list[Path]:
    """Free names from the prompts, in the current or the given folder."""
    most = stem_bytes(Path(output or "."))
    slugs = [slug(words, most) for words in prompts]
    if output is None:
        return in_folder("", [f"{name}-{seed + i}{suffix}" for i, name in enumerate(slugs)])
    digits = len(str(len(prompts)))
    names = [f"{i:0{digits}}-{name}{suffix}" for i, name in enumerate(slugs, start=1)]
    return in_folder(output, names)


def in_folder(folder: str, names: Sequence[str]) -> list[Path]:
    """Free paths of these names in a folder that exists, or that can be made.

    Raises:
        OSError: Nothing can be written there.
    """
    from melisma.files.atomic import check_writable

    paths: list[Path] = []
    for name in names:
        paths.append(free_path(Path(folder) / name, paths))
    if os.path.isdir(folder or "."):
        for path in paths:
            check_writable(path)
        return paths
    above = next(one for one in Path(folder).absolute().parents if one.exists())
    if Path(folder).exists() or not above.is_dir():
        raise NotADirectoryError(f"{folder.rstrip('/')} is a file: give the name of a folder")
    check_writable(above / Path(folder).name)
    return paths


def special_path(output: str, count: int) -> Path | None:
    """The path of an output that is a pipe, a device or standard output; None for a file.

    Raises:
        MelismaError: There is more than one piece, or standard output is a terminal.
        OSError: One cannot write into it.
    """
    from melisma.files.atomic import check_writable

    path = STANDARD_OUTPUT if output == str(PIPE) else Path(output)
    if not is_special(path):
        return None
    if count > 1:
        raise MelismaError(f"{output} takes one piece, not {count}: give a folder or a file name")
    if is_standard_output(path) and sys.stdout.isatty():
        raise MelismaError(
            f"{output} would write a file's bytes into the terminal: send them into a pipe or a "
            "file, e.g. > piece.wav"
        )
    check_writable(path)
    return path


def is_standard_output(path: Path) -> bool:
    """Whether a path is standard output, on which then nothing else is printed."""
    return path == PIPE or descriptor_of(path) == 1


def numbered(path: Path, count: int) -> list[Path]:
    """`waltz.wav` for one piece, else `waltz-1.wav`, `waltz-2.wav`, ..., zero-padded."""
    if count == 1:
        return [path]
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{i:0{digits}}{path.suffix}") for i in range(1, count + 1)]


@contextmanager
def made_folders(*paths: Path | None) -> Iterator[None]:
    """Makes the missing folders of paths; after an error those that are still empty are gone."""
    made: list[Path] = []
    try:
        for path in paths:
            if path is None or path == PIPE:
                continue
            missing = [one for one in path.parents if not one.exists()]
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                made.append(folder)
        yield
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise


def saved_at(
    path: Path, save: Callable[[Path], dict[str, object]], counts_up: bool
) -> dict[str, object]:
    """Saves a piece; a name that another program took in the meantime counts up.

    Args:
        path: Where.
        save: Writes there and returns the receipt; raises `FileExistsError` where something is.
        counts_up: Whether the path may change.
    """
    while True:
        try:
            return save(path)
        except FileExistsError:
            if not counts_up:
                raise
            path = free_path(path)
