"""Standard MIDI files <-> `Score`, as the world writes them.

Read `reading.py` first, then `container.py` (bytes -> tracks), `track_events.py` (bytes of a track
-> events), `notes.py` and `channels.py` (events -> notes and the state of their channels), and
`conductor.py` (what belongs to the whole piece) and `text.py` (in which encoding). `writing.py` is
the way back.
"""

from melisma.symbolic.midi.reading import midi_bytes, read_midi
from melisma.symbolic.midi.writing import write_midi

__all__ = ["midi_bytes", "read_midi", "write_midi"]
