"""Token files: bit-exact round trips, ten bits a token, and damage is always noticed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.files.tokens import MAGIC, pack_tokens, read_tokens, unpack_tokens, write_tokens
from melisma.values import TokenGrid
from melisma.values.errors import MelismaError


def grid(levels: int, frames: int, vocabulary: int, seed: int = 0) -> TokenGrid:
    tokens = np.random.default_rng(seed).integers(0, vocabulary, (levels, frames))
    return TokenGrid(tokens=tokens, vocabulary=vocabulary, frame_rate_hz=25.0, fingerprint="f1-ü")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 30), st.integers(1, 70_000), st.integers(0, 2**32 - 1))
def test_round_trip(levels: int, frames: int, vocabulary: int, seed: int) -> None:
    before = grid(levels, frames, vocabulary, seed)
    after = unpack_tokens(pack_tokens(before))
    np.testing.assert_array_equal(after.tokens, before.tokens)
    assert (after.vocabulary, after.frame_rate_hz) == (vocabulary, 25.0)
    assert after.fingerprint == before.fingerprint


def test_a_token_of_1024_takes_ten_bits() -> None:
    short, long = pack_tokens(grid(8, 0, 1024)), pack_tokens(grid(8, 250, 1024))
    assert len(long) - len(short) == 8 * 250 * 10 // 8


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_damaged_file_is_refused(data: st.DataObject) -> None:
    whole = pack_tokens(grid(3, 7, 1024))
    place = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kind == "flip":
        damaged = bytearray(whole)
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        damaged = whole[:place]
    else:
        damaged = whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:]
    with pytest.raises(MelismaError, match="this is"):
        unpack_tokens(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_give_a_sentence_and_no_crash(junk: bytes) -> None:
    for data in (junk, MAGIC + junk, MAGIC + b"\x01\x00" + junk):
        with pytest.raises(MelismaError, match="this is"):
            unpack_tokens(data)


def test_a_rightly_summed_file_with_tokens_beyond_the_vocabulary_is_refused() -> None:
    body = bytearray(pack_tokens(grid(1, 1, 1024))[:-4])
    struct.pack_into("<I", body, 12, 600)
    body[-2:] = b"\xff\xc0"
    with pytest.raises(MelismaError, match="outside the vocabulary"):
        unpack_tokens(bytes(body) + struct.pack("<I", zlib.crc32(bytes(body))))


def test_another_version_is_named() -> None:
    data = bytearray(pack_tokens(grid(1, 1, 1024)))
    data[8] = 9
    with pytest.raises(MelismaError, match="version 9, this program reads version 1"):
        unpack_tokens(bytes(data))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.mlt"
    before = grid(4, 50, 1024)
    write_tokens(path, before)
    np.testing.assert_array_equal(read_tokens(path).tokens, before.tokens)
    with pytest.raises(MelismaError, match=r'call it "x.mlt"'):
        write_tokens(tmp_path / "x.bin", before)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_tokens(tmp_path / "y.mlt")
    path.write_text("no tokens")
    with pytest.raises(MelismaError, match=r"x\.mlt is not a token file"):
        read_tokens(path)
