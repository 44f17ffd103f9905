"""Packed bytes come back, and what expands further than it may is refused unexpanded."""

from __future__ import annotations

import lzma
import tracemalloc

import pytest
import torch

from melisma.analysis.similarity import compression
from melisma.analysis.similarity.compression import compress, decompress
from melisma.values.errors import MelismaError

DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("data", [b"", b"a", DATA])
def test_bytes_come_back(data: bytes) -> None:
    assert decompress(compress(data)) == data
    assert decompress(compress(data), len(data)) == data


def test_more_than_allowed_is_refused_unexpanded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MelismaError, match="expand to more than 10239"):
        decompress(compress(DATA), len(DATA) - 1)
    with pytest.raises(MelismaError, match="0 bytes or more, not -1"):
        decompress(compress(b""), -1)
    bomb = compress(bytes(2**25))
    assert len(bomb) < 10_000
    tracemalloc.start()
    for max_bytes in (0, 1_000):
        with pytest.raises(MelismaError, match=f"more than {max_bytes}"):
            decompress(bomb, max_bytes)
    assert tracemalloc.get_traced_memory()[1] < 2**24  # the unpacker's window alone is 2**23
    tracemalloc.stop()
    monkeypatch.setattr(compression, "MAX_BYTES", 2**24)
    with pytest.raises(MelismaError, match="more than 16777216"):
        decompress(bomb, 2**40)
    with pytest.raises(MelismaError, match="too many for one file"):
        compress(bytes(2**24 + 1))


def test_what_asks_for_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**28}]
    greedy = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)
    data = greedy.compress(DATA) + greedy.flush()
    with pytest.raises(MelismaError, match="damaged"):
        decompress(torch.frombuffer(bytearray(data), dtype=torch.uint8))


def test_damaged_bytes_are_refused() -> None:
    whole = compress(DATA)
    with pytest.raises(MelismaError, match="cut short"):
        decompress(whole[:-4])
    with pytest.raises(MelismaError, match="followed by others"):
        decompress(torch.cat([whole, whole]))
    for place in range(0, len(whole), 7):
        hurt = whole.clone()
        hurt[place] ^= 0x55
        with pytest.raises(MelismaError, match=r"damaged|cut short"):
            decompress(hurt)
