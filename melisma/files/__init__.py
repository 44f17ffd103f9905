"""Reading and writing files: audio with its provenance, token files, token shards, checkpoints.

Floor 1: may import `values` only. Every file is written whole or not at all (`atomic.py`), and
nothing is ever pickled. Read `atomic.py` first, then `audio.py`, `provenance.py`, `tokens.py`,
`shards.py`; `checkpoint.py` and `compression.py` need torch and are imported by their own names.
`transformers_checkpoint.py` reads checkpoints that others published, `hub.py` finds and fetches
them.
"""

from melisma.files.atomic import replacing, write_bytes
from melisma.files.audio import AUDIO_ENDINGS, read_audio, read_provenance, write_audio
from melisma.files.provenance import Provenance
from melisma.files.shards import Row, ShardReader, ShardWriter
from melisma.files.tokens import read_tokens, write_tokens

__all__ = [
    "AUDIO_ENDINGS",
    "Provenance",
    "Row",
    "ShardReader",
    "ShardWriter",
    "read_audio",
    "read_provenance",
    "read_tokens",
    "replacing",
    "write_audio",
    "write_bytes",
    "write_tokens",
]
