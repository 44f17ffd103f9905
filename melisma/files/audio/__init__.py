"""Audio files: read by content, as far as they go; written by extension, with provenance.

Read `reading.py` first, then `formats.py` (what a file is by its first bytes), `mending.py`
(headers that are wrong in a known way), `writing.py`, `tags.py` and `wav_stream.py`.
"""

from melisma.files.audio.reading import AudioReader, DecodedAudio, read_audio, read_recording
from melisma.files.audio.tags import read_provenance
from melisma.files.audio.writing import (
    AUDIO_ENDINGS,
    LOSSY_ENDINGS,
    audio_ending,
    check_audio_path,
    encode_and_decode,
    write_audio,
)

__all__ = [
    "AUDIO_ENDINGS",
    "LOSSY_ENDINGS",
    "AudioReader",
    "DecodedAudio",
    "audio_ending",
    "check_audio_path",
    "encode_and_decode",
    "read_audio",
    "read_provenance",
    "read_recording",
    "write_audio",
]
