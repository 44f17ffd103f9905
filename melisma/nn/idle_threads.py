"""OpenMP settings for PyTorch: idle threads sleep soon instead of spinning.

Between two products the threads of OpenMP wait for the next, by default spinning for milliseconds.
On a machine with other busy programs that occupies the cores they need: two threads beside one busy
process took eight times as long as one thread. Sleeping at once costs two fifths of the codec's
speed on an idle machine; spinning for some 20 microseconds first costs a twentieth of its encoding
speed there and nothing else that could be measured (`benchmarks/neighbour.py`).
"""

from __future__ import annotations

import os
import sys

_SPINS = 1000
"""Spins of an idle thread before it sleeps (GNU's OpenMP, in PyTorch for Linux)."""
SETTINGS = {"GOMP_SPINCOUNT": str(_SPINS)}
"""Environment variables that GNU's OpenMP reads when PyTorch is loaded. (Other implementations, on
macOS and Windows, were not measured and are left alone.)"""


def limit_spinning() -> None:
    """Sets the environment variables, unless PyTorch is already loaded. Variables that are already
    set take precedence."""
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ:
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
