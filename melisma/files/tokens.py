"""Compact file format of a token grid (`.mlt`): ten bits per token for a vocabulary of 1024.

Layout, little-endian: magic (8 bytes), version u16, levels u16, vocabulary u32, frames u32, frame
rate f64, length of the fingerprint u16, the fingerprint (UTF-8), the tokens frame by frame with
all levels of a frame together, each in `ceil(log2 vocabulary)` bits, most significant first,
padded to a byte; last a CRC-32 (u32) of all preceding bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from melisma.files.atomic import check_writable, write_bytes
from melisma.files.names import is_special
from melisma.values import TokenGrid
from melisma.values.errors import MelismaError

TOKEN_ENDING = ".mlt"
MAGIC = b"\x89MLT\r\n\x1a\n"
"""First bytes; like PNG's they reveal a transfer that changed line endings (PNG, section 5.2)."""
VERSION = 1
_HEADER = struct.Struct("<8sHHIIdH")
_CRC = struct.Struct("<I")
MAX_VOCABULARY = 1 << 20
"""Maximum vocabulary of a file (chosen: far above any codebook in the literature)."""


def token_bits(vocabulary: int) -> int:
    """Bits per token of a vocabulary."""
    return max(1, (vocabulary - 1).bit_length())


def pack_tokens(grid: TokenGrid) -> bytes:
    """Serializes a token grid; `MelismaError` where it exceeds the limits of the format."""
    levels, frames = grid.tokens.shape
    name = grid.fingerprint.encode()
    if not 1 <= grid.vocabulary <= MAX_VOCABULARY:
        raise MelismaError(f"a vocabulary has 1 to {MAX_VOCABULARY} entries, not {grid.vocabulary}")
    if levels > 0xFFFF or len(name) > 0xFFFF:
        raise MelismaError("a token file holds at most 65535 levels and as long a fingerprint")
    bits = token_bits(grid.vocabulary)
    flat = grid.tokens.T.reshape(-1, 1)
    shifts = np.arange(bits - 1, -1, -1, dtype=np.int64)
    payload = np.packbits(((flat >> shifts) & 1).astype(np.uint8).reshape(-1)).tobytes()
    header = _HEADER.pack(
        MAGIC, VERSION, levels, grid.vocabulary, frames, grid.frame_rate_hz, len(name)
    )
    body = header + name + payload
    return body + _CRC.pack(zlib.crc32(body))


def unpack_tokens(data: bytes, name: str = "this") -> TokenGrid:
    """Parses the bytes of a token file.

    Args:
        data: Contents of the file.
        name: Name of the file in messages.

    Raises:
        MelismaError: Not a token file, truncated, damaged, or of another version.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise MelismaError(f"{name} is not a token file: write one with `melisma encode`")
    if len(data) < _HEADER.size + _CRC.size:
        raise MelismaError(f"{name} is truncated: {len(data)} bytes hold no whole header")
    _, version, levels, vocabulary, frames, rate, length = _HEADER.unpack_from(data)
    if version != VERSION:
        raise MelismaError(
            f"{name} is a token file of version {version}, this program reads version {VERSION}: "
            "encode it again"
        )
    valid_header = 1 <= vocabulary <= MAX_VOCABULARY and math.isfinite(rate) and rate > 0
    if not valid_header:
        raise MelismaError(f"{name} is damaged: its header makes no sense")
    bits = token_bits(vocabulary)
    start = _HEADER.size + length
    size = start + (levels * frames * bits + 7) // 8 + _CRC.size
    if len(data) != size:
        state = "truncated" if len(data) < size else "damaged"
        raise MelismaError(
            f"{name} is {state}: it has {len(data)} bytes where {size} are announced"
        )
    (crc,) = _CRC.unpack_from(data, size - _CRC.size)
    if zlib.crc32(data[: -_CRC.size]) != crc:
        raise MelismaError(f"{name} is damaged: its checksum is wrong")
    packed = np.frombuffer(data, np.uint8, offset=start, count=size - _CRC.size - start)
    ones = np.unpackbits(packed, count=levels * frames * bits).reshape(-1, bits)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
    tokens = (ones @ weights).reshape(frames, levels).T
    try:
        fingerprint = data[_HEADER.size : start].decode()
        return TokenGrid(
            tokens=np.ascontiguousarray(tokens),
            vocabulary=vocabulary,
            frame_rate_hz=rate,
            fingerprint=fingerprint,
        )
    except ValueError as error:
        raise MelismaError(f"{name} is damaged: {error}") from error


def check_token_path(path: Path) -> None:
    """Checks that tokens could be written at `path`, a file, a pipe or a device.

    Raises:
        MelismaError: The extension of a file is not `.mlt`.
        OSError: As `check_writable`.
    """
    if not is_special(path) and path.suffix.lower() != TOKEN_ENDING:
        raise MelismaError(f'{path.name} does not end in {TOKEN_ENDING}: call it "{path.stem}.mlt"')
    check_writable(path)


def write_tokens(path: Path, grid: TokenGrid, *, replace: bool = True) -> None:
    """Writes a token file atomically; `MelismaError` unless its extension is `.mlt`."""
    path = Path(path)
    check_token_path(path)
    write_bytes(path, pack_tokens(grid), replace=replace)


def read_tokens(path: Path) -> TokenGrid:
    """Reads a token file; `FileNotFoundError`, or `MelismaError` where it is damaged."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the name")
    return unpack_tokens(path.read_bytes(), str(path))
