"""Output paths: file names from `--output`, `--format` and the number of pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from melisma.files.names import slug
from melisma.values.errors import MelismaError

PIPE = Path("-")
"""Standard output, for sound that is played while it is sampled."""


def audio_paths(
    output: str | None, ending: str | None, prompts: Sequence[str], seed: int
) -> list[Path]:
    """A path for each prompt; `MelismaError` or an `OSError` when nothing can be written there.

    `output` is a file (numbered when there are several pieces), an existing folder, or None for
    names from the prompts in the current folder. `ending` (e.g. "wav") serves where `output` has
    none.
    """
    from melisma.files.audio import AUDIO_ENDINGS, check_audio_path

    allowed = [known.removeprefix(".") for known in AUDIO_ENDINGS]
    if ending is not None and ending.lower().removeprefix(".") not in allowed:
        raise MelismaError(f'no format "{ending}": known are {", ".join(allowed)}')
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
                f"{output} is neither a folder that exists nor a file with an ending: "
                f"create the folder, or end the name in one of {', '.join(AUDIO_ENDINGS)}"
            )
        if not path.suffix:
            path = path.with_name(path.name + suffix)
        if ending is not None and path.suffix.lower() != suffix:
            raise MelismaError(
                f'the output {path.name} and the format "{ending}" disagree: give only one of them'
            )
        paths = numbered(path, len(prompts))
    for one in paths:
        check_audio_path(one)
    return paths


def midi_paths(output: str | None, prompts: Sequence[str], seed: int) -> list[Path]:
    """A path for the score of each prompt, as `audio_paths` for sound; they end in `.mid`."""
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
                f"a score is written as MIDI: end {path.name} in .mid, or name a folder "
                "that exists; --audio takes the name of a sound file"
            )
        paths = numbered(path, len(prompts))
    for one in paths:
        check_writable(one)
    return paths


def stem_paths(stems: Path | None, paths: Sequence[Path]) -> list[Path | None]:
    """A folder for the stems of each piece: the one that is named, or one inside it for each of
    several pieces."""
    from melisma.files.atomic import check_writable

    if stems is None:
        return [None] * len(paths)
    if stems.exists() and not stems.is_dir():
        raise MelismaError(f"{stems} is a file: give the name of a folder for the stems")
    check_writable(stems / "stem.wav" if stems.exists() else stems)
    if len(paths) == 1:
        return [stems]
    return [stems / one.stem for one in paths]


def plot_paths(plot: str | None, count: int) -> list[Path | None]:
    """A path for the picture of each piece; `MelismaError` unless it ends in `.png`."""
    from melisma.files.atomic import check_writable

    if plot is None:
        return [None] * count
    path = Path(plot)
    if path.suffix.lower() != ".png":
        raise MelismaError(f"a picture is written as PNG: end {path.name} in .png")
    check_writable(path)
    return list(numbered(path, count))


def numbered(path: Path, count: int) -> list[Path]:
    """`waltz.wav` alone, or `waltz-1.wav`, `waltz-2.wav`, ... with equally many digits."""
    if count == 1:
        return [path]
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{i:0{digits}}{path.suffix}") for i in range(1, count + 1)]
