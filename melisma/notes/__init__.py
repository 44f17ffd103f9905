"""Notation and its files: Standard MIDI bytes <-> `Score`.

Floor 2: may import `sound`, `nn`, `files` and `values`. Read `midi.py` first.
"""

from melisma.notes.midi import read_midi, write_midi

__all__ = ["read_midi", "write_midi"]
