"""A model as it was named, resolved once: what it is, where it lies, under which licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from melisma.values.errors import MelismaError

PRECISIONS = ("float32", "bfloat16", "int8", "int4")
"""How the weights of a language model can be kept."""
COMPUTE_PRECISIONS = ("auto", "float32", "bfloat16")
"""In what networks can compute; "auto": what the device does well."""
MAX_THREADS = 1_024
"""Most processor threads (chosen)."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def is_device(name: str) -> bool:
    """Whether a device can be called so: "auto", "cpu", "cuda" or "cuda:N"."""
    return _DEVICE.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model by reference. `melisma.generation.resolve.resolve_model` makes it from a name."""

    name: str
    """As it was given: "default", a folder, or a repository on the hub, with "@revision" or not."""
    source: Literal["shipped", "folder", "hub"]
    family: Literal["melisma", "musicgen"]
    """Our own three stages, or MusicGen (2306.05284)."""
    folder: Path | None
    """Where its files lie; None while it is only on the hub."""
    licence: str
    """Of its weights; "not stated" where they are somebody's own."""

    @property
    def title(self) -> str:
        """What its outputs call it."""
        if self.folder is None or self.source == "hub":
            return self.name
        return f"melisma-{self.folder.name}" if self.source == "shipped" else self.folder.name

    @property
    def files(self) -> Path:
        """The folder of a model that is on this machine.

        Raises:
            MelismaError: It was not fetched.
        """
        if self.folder is None:
            raise MelismaError(f"the model {self.name} is not on this machine yet")
        return self.folder

    @property
    def repository(self) -> str:
        """Its name on the hub without the revision."""
        return self.name.split("@")[0]
