"""Notation and its files: Standard MIDI bytes <-> `Score` <-> events; a score becomes sound.

Floor 2: may import `sound`, `nn`, `files` and `values`. Read `midi.py` first, then `events.py`
(what the score model reads and writes) and `render.py` (how a score sounds).
"""

from melisma.symbolic.midi import read_midi, write_midi

__all__ = ["read_midi", "write_midi"]
