"""Bytes compressed into a tensor and back, with a cap: a file from elsewhere may promise little and
expand without end.

Enters: bytes. Leaves: a tensor uint8 [byte] for a checkpoint, with a checksum inside (XZ).
"""

from __future__ import annotations

import lzma

import torch
from torch import Tensor

MOST_BYTES = 2**30
"""No more is packed, and no more unpacked (chosen: the tokens of 6,000 hours of clips)."""
MOST_MEMORY_BYTES = 2**26
"""The unpacker's own memory (chosen: what we pack asks for 9 MiB, a file could ask for 4 GiB)."""


def packed(data: bytes) -> Tensor:
    """Compressed, uint8 [byte]; `ValueError` for more than `MOST_BYTES`."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes are too many for one file: at most {MOST_BYTES}")
    return torch.frombuffer(bytearray(lzma.compress(data)), dtype=torch.uint8)


def unpacked(tensor: Tensor, most_bytes: int = MOST_BYTES) -> bytes:
    """The inverse of `packed`; `ValueError` where the bytes are damaged, or more than `most_bytes`
    or `MOST_BYTES`, of which no more is unpacked than shows it."""
    most_bytes = min(most_bytes, MOST_BYTES)
    if most_bytes < 0:
        raise ValueError(f"nothing has {most_bytes} bytes")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY_BYTES)
    try:
        # One byte more than is allowed tells a longer text from a whole one.
        data = unpacker.decompress(tensor.numpy().tobytes(), most_bytes + 1)
    except lzma.LZMAError as error:
        raise ValueError("the packed bytes are damaged") from error
    if len(data) > most_bytes:
        raise ValueError(f"the packed bytes expand to more than {most_bytes}")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("the packed bytes are cut short, or followed by others")
    return data
