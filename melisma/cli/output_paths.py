"""Where the pieces go: file names from `--output`, `--format` and the number of pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_LONGEST_NAME = 60
PIPE = Path("-")
"""Standard output, for sound that is listened to while it is drawn."""


def slug(words: str) -> str:
    """A file name from the words of a prompt, e.g. "a-gentle-waltz"."""
    plain = re.sub(r"[^\w]+", "-", words.lower()).strip("-_")
    return plain[:_LONGEST_NAME].rstrip("-") or "piece"


def audio_places(
    output: str | None, ending: str | None, prompts: Sequence[str], seed: int
) -> list[Path]:
    """A path for each prompt; `ValueError` or an `OSError` when nothing can be written there.

    `output` is a file (numbered when there are several pieces), an existing folder, or None for
    names from the prompts in the current folder. `ending` (e.g. "wav") serves where `output` has
    none.
    """
    from melisma.files.audio import AUDIO_ENDINGS, check_audio_path

    allowed = [known.removeprefix(".") for known in AUDIO_ENDINGS]
    if ending is not None and ending.lower().removeprefix(".") not in allowed:
        raise ValueError(f'no format "{ending}": known are {", ".join(allowed)}')
    suffix = "." + (ending or "wav").lower().removeprefix(".")
    if output is None:
        names = [f"{slug(words)}-{seed + i}{suffix}" for i, words in enumerate(prompts)]
        places = [Path(name) for name in names]
    elif Path(output).is_dir() or output.endswith("/"):
        digits = len(str(len(prompts)))
        names = [f"{i:0{digits}}-{slug(words)}{suffix}" for i, words in enumerate(prompts, start=1)]
        places = [Path(output) / name for name in names]
    else:
        path = Path(output)
        if not path.suffix and ending is None:
            raise ValueError(
                f"{output} is neither a folder that exists nor a file with an ending: "
                f"create the folder, or end the name in one of {', '.join(AUDIO_ENDINGS)}"
            )
        if not path.suffix:
            path = path.with_name(path.name + suffix)
        if ending is not None and path.suffix.lower() != suffix:
            raise ValueError(
                f'the output {path.name} and the format "{ending}" disagree: give only one of them'
            )
        places = numbered(path, len(prompts))
    for place in places:
        check_audio_path(place)
    return places


def midi_places(output: str | None, prompts: Sequence[str], seed: int) -> list[Path]:
    """A path for the score of each prompt, as `audio_places` for sound; they end in `.mid`."""
    from melisma.files.atomic import check_writable

    if output is None:
        places = [Path(f"{slug(words)}-{seed + i}.mid") for i, words in enumerate(prompts)]
    elif Path(output).is_dir() or output.endswith("/"):
        digits = len(str(len(prompts)))
        names = [f"{i:0{digits}}-{slug(words)}.mid" for i, words in enumerate(prompts, start=1)]
        places = [Path(output) / name for name in names]
    else:
        path = Path(output)
        if path.suffix.lower() not in (".mid", ".midi"):
            raise ValueError(
                f"a score is written as MIDI: end {path.name} in .mid, or name a folder "
                "that exists; --audio takes the name of a sound file"
            )
        places = numbered(path, len(prompts))
    for place in places:
        check_writable(place)
    return places


def stem_places(stems: Path | None, places: Sequence[Path]) -> list[Path | None]:
    """A folder for the stems of each piece: the one that is named, or one inside it for each of
    several pieces."""
    from melisma.files.atomic import check_writable

    if stems is None:
        return [None] * len(places)
    if stems.exists() and not stems.is_dir():
        raise NotADirectoryError(f"{stems} is a file: give the name of a folder for the stems")
    check_writable(stems / "stem.wav" if stems.exists() else stems)
    if len(places) == 1:
        return [stems]
    return [stems / place.stem for place in places]


def picture_places(plot: str | None, count: int) -> list[Path | None]:
    """A path for the picture of each piece; `ValueError` unless it ends in `.png`."""
    from melisma.files.atomic import check_writable

    if plot is None:
        return [None] * count
    path = Path(plot)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a picture is written as PNG: end {path.name} in .png")
    check_writable(path)
    return list(numbered(path, count))


def numbered(path: Path, count: int) -> list[Path]:
    """`waltz.wav` alone, or `waltz-1.wav`, `waltz-2.wav`, ... with equally many digits."""
    if count == 1:
        return [path]
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{i:0{digits}}{path.suffix}") for i in range(1, count + 1)]
