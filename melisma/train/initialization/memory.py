"""Memory of a training: networks that cannot fit are refused before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from melisma.engine.resources.hardware import memory
from melisma.engine.resources.memory import fits, gigabytes
from melisma.values.errors import MelismaError

Network = TypeVar("Network", bound=nn.Module)
BYTES_PER_PARAMETER = 20
"""Of weights, gradients, two moments and averaged weights in float32."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says; on a processor it raises a plain RuntimeError."""


def built(make: Callable[[], Network], device: str) -> Network:
    """Builds a network that is to be trained.

    It is built without storage first, which allocates nothing and takes no random numbers.

    Args:
        make: Makes the network.
        device: Where it is trained.

    Returns:
        The network on the device.

    Raises:
        MelismaError: Its settings make no network, or it does not fit into memory.
    """
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in make().parameters())
    # Torch and arithmetic refuse what no rule of ours foresees: negative sizes, no heads at all.
    except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, MelismaError):
            raise
        reason = str(error).split("\n")[0]
        raise MelismaError(f"these settings make no network ({reason}): change them") from error
    needed, available = parameters * BYTES_PER_PARAMETER, memory().available_bytes
    if torch.device(device).type == "cpu" and not fits(needed, available):
        raise MelismaError(
            f"training {parameters / 1e6:,.1f} M parameters needs {gigabytes(needed)} of memory, "
            f"and {gigabytes(available or 0)} are available: choose a smaller model"
        )
    return make().to(device)


@contextmanager
def enough_memory(part: str) -> Iterator[None]:
    """Turns what torch raises when memory is used up into a sentence.

    Args:
        part: What is trained: the first part of the names of its settings.

    Raises:
        MelismaError: There is not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error).lower()
        if not isinstance(error, MemoryError) and not any(one in words for one in _OUT_OF_MEMORY):
            raise
        raise MelismaError(
            f"the training of {part} needs more memory than there is: use a smaller batch or a "
            f"smaller model (--set {part}.batch=2, for example)"
        ) from error
