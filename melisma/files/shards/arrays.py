"""Reading of named arrays (`.npz`) that may be damaged."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from melisma.values.errors import MelismaError

ARRAY_ERRORS = (
    ArithmeticError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and the modules that it reads with raise for damaged arrays, by kind of damage."""


def read_arrays(
    path: Path, advice: str = "delete it, and run the command again"
) -> dict[str, np.ndarray]:
    """Reads all arrays of a file in the `.npz` format.

    Args:
        path: The file.
        advice: What to do where it is damaged, for the message.

    Raises:
        MelismaError: The file is damaged.
        OSError: It cannot be read.
    """
    try:
        # Opened here, because NumPy leaves the file open where it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except ARRAY_ERRORS as error:
        raise MelismaError(f"{path} is damaged: {advice}") from error
    except AttributeError as error:  # a single array has no `files`
        raise MelismaError(f"{path} holds no named arrays: {advice}") from error
