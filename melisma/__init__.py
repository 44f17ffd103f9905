"""Melisma: words, a hummed tune or a recording become music, as sound and as notes.

Read one file per floor to know the program: `values/__init__.py`, `compose/song.py` (a prompt
becomes sound) and `recipes/__init__.py` (a folder becomes weights).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("melisma")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
