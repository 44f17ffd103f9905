"""Melody extraction from hummed, whistled, sung or played audio. Floor 2: may import
`sound nn files values`.

Read `tune.py` first, then `chroma.py` (the melody conditioning of MusicGen).
"""

from melisma.melody.chroma import chroma_cosine, chroma_of, chroma_of_tune
from melisma.melody.transcribe import TuneNote
from melisma.melody.tune import Tune, extract_tune, melody_frames

__all__ = [
    "Tune",
    "TuneNote",
    "chroma_cosine",
    "chroma_of",
    "chroma_of_tune",
    "extract_tune",
    "melody_frames",
]
