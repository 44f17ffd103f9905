"""Symbolic music: Standard MIDI bytes <-> `Score` <-> event tokens, and score to audio.

Floor 2: may import `sound`, `nn`, `files` and `values`. Read `midi` first, then `events.py`
(the tokens of the score model) and `render.py` (synthesis with a SoundFont).
"""

from melisma.symbolic.midi import read_midi, write_midi

__all__ = ["read_midi", "write_midi"]
