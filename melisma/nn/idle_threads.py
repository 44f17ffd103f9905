"""Idle threads of PyTorch sleep soon instead of waiting in a busy loop.

Between two products the threads of OpenMP wait for the next, by default in a loop for milliseconds.
On a machine with other busy programs that takes the very cores that somebody needs: two threads
beside one busy process took eight times as long as one thread. To sleep at once costs two fifths
of the codec's speed on an idle machine; to spin for some 20 microseconds first costs a twentieth of
its encoding there and nothing else that could be measured (`benchmarks/neighbour.py`).
"""

from __future__ import annotations

import os
import sys

_SPINS = 1000
"""Spins of an idle thread before it sleeps (GNU's OpenMP, in PyTorch for Linux)."""
SETTINGS = {"GOMP_SPINCOUNT": str(_SPINS)}
"""Environment variables, which GNU's OpenMP reads when PyTorch is loaded. (Those of others, on
macOS and Windows, were not measured and stay as they are.)"""


def limit_spinning() -> None:
    """Settles it for PyTorch, where that is loaded later in this process. Settings that are there
    already hold."""
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ:
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
