"""Reading and writing files: audio with its provenance, token files, token shards, checkpoints.

Floor 1: may import `values` only. Every file is written atomically (`atomic.py`), and nothing is
ever pickled. Read `atomic.py` first (with `temporary.py` and `names.py`), then `audio`,
`provenance.py`, `tokens.py`, `shards`;
`checkpoint.py` needs torch and is imported from its own module; `typed_json.py` checks JSON from
outside.
`transformers_checkpoint.py` reads published third-party checkpoints, `hub.py` finds and downloads
them.
"""

from melisma.files.atomic import atomic_write, write_bytes
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
    "atomic_write",
    "read_audio",
    "read_provenance",
    "read_tokens",
    "write_audio",
    "write_bytes",
    "write_tokens",
]
