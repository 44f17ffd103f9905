"""Output paths of the pieces, from `--output`, `--format` and the number of pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from melisma.cli.arguments import unknown_name
from melisma.files.names import slug
from melisma.values.errors import MelismaError

PIPE = Path("-")
"""Standard output, for audio that is played while it is generated."""


def audio_paths(
    output: str | None, ending: str | None, prompts: Sequence[str], seed: int
) -> list[Path]:
    """Paths of the audio files.

    Args:
        output: A file (numbered if there are several pieces), an existing folder, or None for file
            names from the prompts in the current folder.
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
    if output is None:
        names = [f"{slug(words)}-{seed + i}{suffix}" for i, words in enumerate(prompts)]
        paths = [Path(name) for name in names]
    elif Path(output).is_dir() or output.endswith("/"):
        digits = len(str(len(prompts)))
        names = [f"{i:0{digits}}-{slug(words)}{suffix}" for i, words in enumerate(prompts, start=1)]
        paths = [Path(output) / name for name in names]
    else:
        path = Path(output)
        if not path.suffix and ending is None:
            raise MelismaError(
                f"{output} is neither an existing folder nor a file name with an extension: "
                f"create the folder, or add one of {', '.join(AUDIO_ENDINGS)}"
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

    if output is None:
        paths = [Path(f"{slug(words)}-{seed + i}.mid") for i, words in enumerate(prompts)]
    elif Path(output).is_dir() or output.endswith("/"):
        digits = len(str(len(prompts)))
        names = [f"{i:0{digits}}-{slug(words)}.mid" for i, words in enumerate(prompts, start=1)]
        paths = [Path(output) / name for name in names]
    else:
        path = Path(output)
        if path.suffix.lower() not in (".mid", ".midi"):
            raise MelismaError(
                f"scores are written as MIDI files: {path.name} must end in .mid or be an existing "
                "folder; use --audio for an audio file"
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


def plot_paths(plot: str | None, count: int) -> list[Path | None]:
    """Paths of the plots, one per piece; None for each if `plot` is None.

    Raises:
        MelismaError: The name does not end in `.png`.
        OSError: Nothing can be written there.
    """
    from melisma.files.atomic import check_writable

    if plot is None:
        return [None] * count
    path = Path(plot)
    if path.suffix.lower() != ".png":
        raise MelismaError(f"plots are written as PNG: {path.name} must end in .png")
    check_writable(path)
    return list(numbered(path, count))


def numbered(path: Path, count: int) -> list[Path]:
    """`waltz.wav` for one piece, else `waltz-1.wav`, `waltz-2.wav`, ..., zero-padded."""
    if count == 1:
        return [path]
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{i:0{digits}}{path.suffix}") for i in range(1, count + 1)]
