"""Mutations of valid files for fuzzing: what damage, edits and malice make of them.

Input: the bytes of a valid file and a random generator. Output: other bytes, most of them nearly
valid, because nonsense throughout is refused by the first line of any reader. A mutation depends on
the generator alone: the number of an input is enough to make it again.
"""

from __future__ import annotations

import copy
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

INTEGERS = (
    0, 1, 2, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**24, 2**31 - 1, 2**31,
    2**32 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
"""Lengths, counts and offsets at the edges of types."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 0.5, -0.5, 1e308, -1e308, 1e-300, float("nan"),
    float("inf"), float("-inf"), 10**9, 2**31, 2**63, 10**30, "", " ", "text", "1", "nan",
    "\udcff", "\x00", "../../x", "<script>alert(1)</script>", "é\u2028🎻", [], {}, [1], ["a"],
    {"a": 1}, [[[]]], "x" * 5_000,
)  # fmt: skip
"""JSON values of all types, to be put in the place of any other."""
NUMBERS = ("0", "-1", "1e999", "99999999999999999999", "0.5", "NaN", "Infinity", "1" * 5_000, "")


def _choice(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def _place(rng: np.random.Generator, data: bytes) -> int:
    """A place in a file; every other time near its beginning, where its headers are."""
    most = min(len(data), 256) if rng.random() < 0.5 else len(data)
    return int(rng.integers(most + 1))


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if out:
            out[min(_place(rng, data), len(out) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes, by those at the edges of types or by random ones."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if out:
            byte = _choice(rng, (0, 0xFF, 0x7F, 0x80, int(rng.integers(256))))
            out[min(_place(rng, data), len(out) - 1)] = byte
    return bytes(out)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end."""
    return data[: _place(rng, data)]


def remove(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch."""
    at = _place(rng, data)
    return data[:at] + data[at + int(rng.integers(1, 65)) :]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch, several times."""
    at = _place(rng, data)
    part = data[at : at + int(rng.integers(1, 65))]
    return data[:at] + part * int(rng.integers(2, 20)) + data[at:]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes."""
    at = _place(rng, data)
    return data[:at] + rng.bytes(int(rng.integers(1, 33))) + data[at:]


def exchange(data: bytes, rng: np.random.Generator) -> bytes:
    """Two stretches, one for the other."""
    first, second = sorted((_place(rng, data), _place(rng, data)))
    size = min(int(rng.integers(1, 65)), second - first, len(data) - second)
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


def length(data: bytes, rng: np.random.Generator) -> bytes:
    """A field of two, four or eight bytes, by a number at the edge of a type, in either order."""
    code = str(_choice(rng, ("<H", ">H", "<I", ">I", "<Q", ">Q")))
    size = struct.calcsize(code)
    if len(data) < size:
        return data
    at = min(_place(rng, data), len(data) - size)
    number = int(_choice(rng, INTEGERS)) % 2 ** (8 * size)
    return data[:at] + struct.pack(code, number) + data[at + size :]


def number(data: bytes, rng: np.random.Generator) -> bytes:
    """A number that is written as text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:1_000_000]))
    if not found:
        return overwrite(data, rng)
    one = _choice(rng, found)
    return data[: one.start()] + str(_choice(rng, NUMBERS)).encode() + data[one.end() :]


BYTES: tuple[Mutation, ...] = (
    flip, flip, overwrite, cut, remove, repeat, insert, exchange, length, length, number,
)  # fmt: skip


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations of bytes."""
    for _ in range(int(rng.integers(1, 4))):
        data = _choice(rng, BYTES)(data, rng)
    return data


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a JSON document."""
    found, todo = [], [tree]
    while todo:
        one = todo.pop()
        items = one.items() if isinstance(one, dict) else enumerate(one)
        for key, value in items:
            found.append((one, key))
            if isinstance(value, dict | list):
                todo.append(value)
    return found


def mutated_tree(tree: Any, rng: np.random.Generator) -> Any:
    """A JSON document with some values of other types, missing, twice or under other names."""
    box = [tree]
    for _ in range(int(rng.integers(1, 4))):
        container, key = _choice(rng, _places(box))
        action = rng.random()
        if action < 0.6 or container is box:
            container[key] = copy.deepcopy(_choice(rng, VALUES))
        elif action < 0.75:
            del container[key]
        elif action < 0.85 and isinstance(container, dict):
            container[str(_choice(rng, VALUES))[:20]] = container.pop(key)
        elif action < 0.9:
            deep: Any = container[key]
            for _ in range(int(_choice(rng, (3, 200)))):
                deep = [deep]
            container[key] = deep
        elif isinstance(container, list):
            container += [copy.deepcopy(container[key])] * int(_choice(rng, (1, 1_000)))
        else:
            container[key] = [container[key]]
    return box[0]


def mutated_json(data: bytes, rng: np.random.Generator) -> bytes:
    """A JSON file: its values mostly, sometimes its bytes, or nesting that fills the stack."""
    kind = rng.random()
    if kind < 0.15:
        return mutated_bytes(data, rng)
    if kind < 0.18:
        return b"[" * 100_000 + b"]" * 100_000
    return json.dumps(mutated_tree(json.loads(data), rng)).encode("utf-8", "surrogatepass")


def mutated_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """A file of lines, in some files with a JSON document on each."""
    lines = data.splitlines()
    if not lines or rng.random() < 0.3:
        return mutated_bytes(data, rng)
    at = int(rng.integers(len(lines)))
    is_json = lines[at][:1] in (b"{", b"[")
    lines[at] = (mutated_json if is_json else mutated_bytes)(lines[at], rng)
    return b"\n".join(lines)


def mutated_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file: the JSON documents of its metadata, its header, its numbers, its bytes.
    (Layout: 8 bytes, a JSON header, the data.)"""
    kind = rng.random()
    if kind < 0.3:
        return mutated_bytes(data, rng)
    size = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + size]), data[8 + size :]
    metadata = header.get("__metadata__", {})
    documents = [name for name, text in metadata.items() if text[:1] in "{["]
    if kind < 0.6 and documents:
        name = _choice(rng, documents)
        metadata[name] = json.dumps(mutated_tree(json.loads(metadata[name]), rng))
    elif kind < 0.75:
        header = mutated_tree(header, rng)
    elif kind < 0.85:
        names = [name for name in header if name != "__metadata__"]
        one, other = _choice(rng, names), _choice(rng, names)
        header[one], header[other] = header[other], header[one]
    else:
        out = bytearray(numbers)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(max(len(out) - 4, 1)))
            out[at : at + 4] = struct.pack("<f", _choice(rng, (float("nan"), float("inf"), 3e38)))
        numbers = bytes(out)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + numbers


def token_bits(data: bytes) -> int:
    """Bits of a token in a valid token file."""
    return max(1, (struct.unpack_from("<I", data, 12)[0] - 1).bit_length())


def mutated_tokens(data: bytes, rng: np.random.Generator) -> bytes:
    """A token file whose checksum is right nevertheless, most of the time."""
    body = mutated_bytes(data[:-4], rng)
    if rng.random() < 0.2:
        # Another vocabulary, with as many tokens of it.
        levels, frames = (
            struct.unpack_from("<H", data, 10)[0],
            struct.unpack_from("<I", data, 16)[0],
        )
        size, vocabulary = len(data[:-4]), 2 ** int(rng.integers(1, 20))
        bits = max(1, (vocabulary - 1).bit_length())
        start = size - (levels * frames * token_bits(data) + 7) // 8
        packed = rng.bytes((levels * frames * bits + 7) // 8)
        body = data[:12] + struct.pack("<I", vocabulary) + data[16:start] + packed
    if rng.random() < 0.1:
        return body + data[-4:]
    return body + struct.pack("<I", zlib.crc32(body))


_LETTERS = (
    "a slow waltz", "120 bpm", "F# minor", "🎻", "é", "\u2028", "\udcff", "\x00", "\x1b[31m", "𠀀",
    "no drums", "7/8", "'; rm -rf", "%s%n", "{0}", "\\", '"', "﷽", "\u202e", "\ufeff", "-", "--x",
    "1" * 400, "key of H", "0 bpm", "999999999999 bpm", "flute, " * 40,
)  # fmt: skip


def words(rng: np.random.Generator) -> str:
    """Words of a prompt as nobody would write it."""
    parts = [str(_choice(rng, _LETTERS)) for _ in range(int(rng.integers(0, 6)))]
    if rng.random() < 0.2:
        parts.append("".join(chr(int(c)) for c in rng.integers(1, 0x11000, 20)))
    return str(_choice(rng, (" ", "", ", "))).join(parts)
