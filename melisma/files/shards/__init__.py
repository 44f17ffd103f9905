"""Folders that a long run fills: shards of rows, and what keeps such a folder whole.

Read `rows.py` first, then `writer.py`. `lock.py` admits one process at a time,
`stored_settings.py` compares the settings of a run that is resumed, and `arrays.py` reads caches;
these serve trainings, too.
"""

from melisma.files.shards.rows import INDEX, Facts, IndexLine, Row, ShardReader, read_index
from melisma.files.shards.writer import NumberedShards, ShardWriter, write_shard

__all__ = [
    "INDEX",
    "Facts",
    "IndexLine",
    "NumberedShards",
    "Row",
    "ShardReader",
    "ShardWriter",
    "read_index",
    "write_shard",
]
