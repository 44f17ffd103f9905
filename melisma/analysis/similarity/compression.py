"""Compression of bytes into a tensor for a checkpoint, with limits against decompression bombs.

Bytes <-> tensor uint8 [byte], in the XZ format with its checksum.
"""

from __future__ import annotations

import lzma

import torch
from torch import Tensor

from melisma.values.errors import MelismaError

MAX_BYTES = 2**30
"""Maximum uncompressed size, both ways (chosen: the tokens of 6,000 hours of clips)."""
MAX_MEMORY_BYTES = 2**26
"""Memory limit of the decompressor (chosen: our files need 9 MiB, a hostile one may ask for
4 GiB)."""


def compress(data: bytes) -> Tensor:
    """Compresses bytes to a tensor, uint8 [byte]; `MelismaError` for more than `MAX_BYTES`."""
    if len(data) > MAX_BYTES:
        raise MelismaError(f"{len(data)} bytes are too many for one file: at most {MAX_BYTES}")
    return torch.frombuffer(bytearray(lzma.compress(data)), dtype=torch.uint8)


def decompress(tensor: Tensor, max_bytes: int = MAX_BYTES) -> bytes:
    """Decompresses a tensor; the inverse of `compress`.

    Args:
        tensor: Compressed bytes, uint8 [byte].
        max_bytes: Limit of the uncompressed size, at most `MAX_BYTES`.

    Raises:
        MelismaError: The data are damaged, or expand beyond the limit (decompression stops there).
    """
    max_bytes = min(max_bytes, MAX_BYTES)
    if max_bytes < 0:
        raise MelismaError(f"a size limit is 0 bytes or more, not {max_bytes}")
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY_BYTES)
    try:
        # One byte more than is allowed distinguishes a longer text from a whole one.
        data = decompressor.decompress(tensor.numpy().tobytes(), max_bytes + 1)
    except lzma.LZMAError as error:
        raise MelismaError("the packed bytes are damaged") from error
    if len(data) > max_bytes:
        raise MelismaError(f"the packed bytes expand to more than {max_bytes}")
    if not decompressor.eof or decompressor.unused_data:
        raise MelismaError("the packed bytes are cut short, or followed by others")
    return data
