"""A step as a list of operations on fixed addresses, and the threads that run it.

`Program` collects operations (`kernels.py`) on numpy arrays, which it keeps alive; `run` goes
through them on all threads. How many rows count, and where each row belongs, is read from arrays
that the caller fills before: one program serves every step.

**How threads share the work.** An operation is cut into pieces (tiles of a matrix, heads, rows),
and these into chunks, of which each thread owns some. It claims them one after another from a word
in memory of its own, and when there are none left, those of other threads; a chunk is claimed by
exchanging the word (operation, next chunk) for the next one. Whoever finishes the last chunk of all
publishes the number of the next operation. So nobody waits for a thread that the system has put
aside, unless it is in the middle of a chunk: beside other busy programs the rest of the threads do
its work. What is computed does not depend on who computes it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from melisma.nn.native import attention, choosing, kernels, products
from melisma.nn.native.attention import room_of
from melisma.nn.native.compiling import compiled
from melisma.nn.native.packing import Packed, byte_layout, empty
from melisma.nn.native.products import BFLOAT16, FLOAT32, INT4, INT8, TILE
from melisma.nn.native.selection import selected
from melisma.nn.native.vectors import add_to, give_way, look_at, put_at, rest, swap_at

(
    _EMBED, _NORM, _FLOATS, _QUANTIZED, _ACTIVATE, _REMEMBER, _PAST, _ATTEND, _TEXT, _BEGIN, _CHOOSE
) = range(11)  # fmt: skip
_PIECES, _BY_ROW = 1, 2
"""Fields of an operation: its pieces, and whether each row has so many."""
_FIELDS = 20
_KINDS = {"float32": FLOAT32, "bfloat16": BFLOAT16, "int8": INT8, "int4": INT4}
_ROWS, _NUMBER, _DONE, _WORDS = 0, 8, 16, 24
"""Places of the control array: rows that count, the number of the present operation, its chunks
that are done, and the word of each thread."""
_APART = 8
"""Numbers from one place to the next: each has a line of the cache for itself."""
_CHUNK_BITS = 20
"""Bits of a word that number chunks; an operation has far fewer."""
_CHUNKS_A_THREAD = 4
"""Chunks of a large operation that each thread owns (chosen: a thread that is put aside keeps an
eighth of an operation from two)."""
_PATIENCE = 2_000
"""Looks at the number before a waiting thread lets others run (some 50 microseconds)."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Keys and values of one layer."""

    keys: np.ndarray
    """[slot, head, place, number]: float32, bfloat16 as uint16, or int8; as `past.py` arranges
    them."""
    values: np.ndarray
    key_scales: np.ndarray | None = None
    """float32 [slot, head, place], for int8 alone."""
    value_scales: np.ndarray | None = None

    def arrays(self) -> list[np.ndarray]:
        """All that there are."""
        found = (self.keys, self.values, self.key_scales, self.value_scales)
        return [one for one in found if one is not None]

    @property
    def kind(self) -> int:
        """Number of one of `past.KINDS`."""
        return {np.float32: 0, np.uint16: 1, np.int8: 2}[self.keys.dtype.type]


class Program:
    """Operations in the order in which they are to be done."""

    def __init__(self, most_rows: int, threads: int, *, distinct: bool = False) -> None:
        """`distinct`: no two rows of a step are of one sequence, so none needs another's key."""
        self.most_rows, self.threads, self.distinct = most_rows, threads, distinct
        self._control = empty((_WORDS + _APART * threads,), np.int64)
        self.slots = empty((most_rows,), np.int64)
        """Whose past each row belongs to."""
        self.positions = empty((most_rows,), np.int64)
        """The place of each row in its sequence, from 0."""
        self.angle_index = empty((most_rows,), np.int64)
        """Which angles turn each row."""
        self._spare = self.room((threads, 4, TILE))
        self._kept: list[Any] = []
        self._operations: list[list[int]] = []
        self._table: np.ndarray | None = None

    def room(self, shape: tuple[int, ...], kind: type = np.float32) -> np.ndarray:
        """An array to work in."""
        return empty(shape, kind)

    def _add(
        self, operation: int, *arguments: Any, pieces: int = 1, by_row: bool = False
    ) -> None:
        """`pieces`: that can be done side by side, in all or, `by_row`, of every row."""
        numbers = [pieces, by_row]
        for one in arguments:
            if isinstance(one, np.ndarray):
                assert one.flags.c_contiguous
                self._kept.append(one)
                numbers.append(one.ctypes.data)
            else:
                numbers.append(0 if one is None else int(one))
        assert len(numbers) < _FIELDS
        self._operations.append([operation, *numbers] + [0] * (_FIELDS - 1 - len(numbers)))
        self._table = None

    def embed(
        self,
        tables: list[np.ndarray],
        tokens: np.ndarray,
        extras: tuple[np.ndarray, np.ndarray],
        indices: tuple[np.ndarray, np.ndarray],
        out: np.ndarray,
    ) -> None:
        """Rows from tables of tokens and two extra tables, see `kernels.embed_rows`."""
        self._kept += tables
        places = np.array([table.ctypes.data for table in tables], np.int64)
        self._add(
            _EMBED, places, len(tables), tokens, out.shape[1],
            extras[0], indices[0], extras[1], indices[1], out, by_row=True,
        )  # fmt: skip

    def normalise(
        self,
        x: np.ndarray,
        out: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        epsilon: float,
        *,
        centred: bool,
        told: np.ndarray | None = None,
        told_first: int = 0,
    ) -> None:
        """A norm of every row, see `kernels.normalise_rows`."""
        bits = np.array([epsilon], np.float32).view(np.int32)[0]
        self._add(
            _NORM, x, out, weight, bias, x.shape[1], bits, centred, told, told_first, by_row=True
        )

    def multiply(self, matrix: Packed, x: np.ndarray, out: np.ndarray, *, add: bool) -> None:
        """out (+)= x times the matrix; all float32 [row, width]."""
        assert x.shape[1] == matrix.inputs
        assert out.shape[1] == matrix.outputs
        kind = _KINDS[matrix.precision]
        if kind in (FLOAT32, BFLOAT16):
            self._add(
                _FLOATS, kind, matrix.weights, matrix.outputs, matrix.inputs, x, out, add,
                self._spare, pieces=matrix.tiles,
            )  # fmt: skip
            return
        groups = matrix.inputs // matrix.group_size
        layout = byte_layout(selected(), matrix.precision)
        # Each thread quantizes the rows for itself.
        kind_of_x = (np.int8, np.int16)[layout.x_bytes - 1]
        numbers = self.room((self.threads, self.most_rows, matrix.inputs), kind_of_x)
        scales = self.room((self.threads, self.most_rows, groups))
        sums = self.room((self.threads, self.most_rows, groups), np.int32)
        self._add(
            _QUANTIZED, kind, matrix.weights, matrix.group_scales, matrix.row_scales,
            matrix.outputs, matrix.inputs, matrix.group_size, numbers, scales, sums, out, add,
            self._spare, x, layout.x_bytes, layout.zero, self.most_rows, pieces=matrix.tiles,
        )  # fmt: skip

    def activate(self, x: np.ndarray, out: np.ndarray, *, gated: bool) -> None:
        """GELU or SwiGLU, see `kernels.activate_rows`."""
        blocks = -(-out.shape[1] // kernels.ACTIVATED)
        self._add(_ACTIVATE, x, out, out.shape[1], gated, pieces=blocks, by_row=True)

    def attend(
        self,
        joined: np.ndarray,
        past: Kept,
        window: int,
        angles: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Keys and values of [row, 3 * width] enter the past, and every row attends to at most
        `window` places of its own."""
        _, heads, ring, size = past.keys.shape
        window = min(window, ring)  # no more is kept
        width = out.shape[1]
        kept = (past.keys, past.key_scales, past.values, past.value_scales, past.kind, ring)
        room = self.room((self.threads, room_of(window, size)))
        facts = (joined, width, heads, *kept, window, room, room.shape[1], out, angles)
        for operation in (_ATTEND,) if self.distinct else (_REMEMBER, _PAST):
            self._add(operation, *facts, pieces=heads, by_row=True)

    def attend_text(
        self,
        query: np.ndarray,
        told: Kept,
        lengths: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Every row attends to the text of its slot."""
        _, heads, longest, size = told.keys.shape
        room = self.room((self.threads, room_of(longest, size)))
        self._add(
            _TEXT, query, query.shape[1], heads, told.keys, told.values, told.kind, longest,
            lengths, room, room.shape[1], out, pieces=heads, by_row=True,
        )  # fmt: skip

    def draw(self, drawing: choosing.Desk) -> None:
        """The rows of a step begin from the tokens drawn before (call first)."""
        self._add(_BEGIN, drawing.table)

    def choose(self, drawing: choosing.Desk) -> None:
        """The next tokens are drawn from the logits (call last)."""
        self._add(_CHOOSE, drawing.table)

    def run(self, rows: int, steps: int = 1) -> None:
        """Every operation once on the first `rows` rows, `steps` times over."""
        assert 0 < rows <= self.most_rows
        if self._table is None:
            self._table = np.array(self._operations, np.int64)
        self._control[:] = 0
        self._control[_ROWS] = rows
        shared: list[Any] = [
            self._table, steps, self._control, self.slots.ctypes.data, self.positions.ctypes.data,
            self.angle_index.ctypes.data,
        ]  # fmt: skip
        # Two programs that each held some of the threads would wait for the others for ever.
        with _ONE_AT_A_TIME:
            others = [
                _pool(self.threads).submit(_run, *shared, thread, self.threads)
                for thread in range(1, self.threads)
            ]
            _run(*shared, 0, self.threads)
            for other in others:
                other.result()


_ONE_AT_A_TIME = threading.Lock()
_POOLS: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work, started once in a process; a forked one has none of them."""
    mine = os.getpid(), threads
    if mine not in _POOLS:
        _POOLS[mine] = ThreadPoolExecutor(max(threads - 1, 1), "melisma-native")
    return _POOLS[mine]


@compiled
def _pieces(operation, rows):
    """Pieces of an operation."""
    if operation[0] == _CHOOSE:
        return choosing.choices(operation[3])
    return operation[_PIECES] * (rows if operation[_BY_ROW] else 1)


@compiled
def _claim(word, number, chunks):
    """The next chunk of the operation `number` that a thread's word leaves, or -1 where none of its
    `chunks` is left."""
    while chunks > 0:
        seen = look_at(word)
        of = seen >> _CHUNK_BITS
        chunk = seen & ((1 << _CHUNK_BITS) - 1) if of == number else 0
        if of > number or chunk >= chunks:
            return -1
        if swap_at(word, seen, (number << _CHUNK_BITS) + chunk + 1):
            return chunk
    return -1


@compiled
def _run(table, steps, control, slots, positions, angle_index, thread, threads):
    """What one thread does until all steps are done."""
    base = control.ctypes.data
    present, done, words = base + 8 * _NUMBER, base + 8 * _DONE, base + 8 * _WORDS
    rows, operations = control[_ROWS], table.shape[0]
    number, looks = 0, 0
    while number < steps * operations:
        operation = table[number % operations]
        pieces = _pieces(operation, rows)
        chunks = max(1, min(pieces, threads * _CHUNKS_A_THREAD if threads > 1 else 1))
        finished = 0
        for away in range(threads):
            owner = (thread + away) % threads
            first, last = owner * chunks // threads, (owner + 1) * chunks // threads
            chunk = _claim(words + 8 * _APART * owner, number, last - first)
            while chunk >= 0:
                begin, end = (first + chunk) * pieces // chunks, (first + chunk + 1) * pieces // chunks
                _do(
                    operation, rows, slots, positions, angle_index, begin, end, thread,
                    finished == 0,
                )  # fmt: skip
                finished += 1
                chunk = _claim(words + 8 * _APART * owner, number, last - first)
        if finished > 0 and add_to(done, finished) + finished == chunks:
            put_at(done, 0)
            number += 1
            put_at(present, number)
            continue
        looks = 0
        while look_at(present) == number:
            rest()
            looks += 1
            if looks > _PATIENCE:
                give_way()
        number = look_at(present)


@compiled
def _do(a, rows, slots, positions, angle_index, first, last, thread, fresh):
    """The pieces of an operation from `first` to before `last`; `fresh`: the first that this thread
    does of it."""
    operation = a[0]
    if operation == _FLOATS:
        products.multiply_floats(
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], rows, first, last, thread
        )
    elif operation == _QUANTIZED:
        inputs, group_size, x_bytes = a[8], a[9], a[17]
        first_row, groups = thread * a[19], inputs // group_size
        numbers = a[10] + first_row * inputs * x_bytes
        scales, sums = a[11] + 4 * first_row * groups, a[12] + 4 * first_row * groups
        if fresh:
            products.quantize_rows(
                a[16], inputs, group_size, numbers, x_bytes, scales, sums, a[18], rows
            )
        products.multiply_quantized(
            a[3], a[4], a[5], a[6], a[7], inputs, group_size, numbers, scales, sums, a[13], a[14],
            a[15], rows, first, last, thread,
        )  # fmt: skip
    elif operation == _NORM:
        kernels.normalise_rows(
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], slots, first, last
        )
    elif operation == _ACTIVATE:
        kernels.activate_rows(a[3], a[4], a[5], a[6], first, last)
    elif operation in (_REMEMBER, _PAST, _ATTEND):
        if operation != _PAST:
            attention.remember_rows(
                a[3], a[4], a[5], a[16], angle_index, a[6], a[7], a[8], a[9], a[10], a[11], slots,
                positions, first, last,
            )  # fmt: skip
        if operation != _REMEMBER:
            attention.attend_past(
                a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], slots, positions,
                a[13], a[14], a[15], first, last, thread,
            )  # fmt: skip
    elif operation == _TEXT:
        attention.attend_text(
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], slots, a[11], a[12], a[13], first,
            last, thread,
        )  # fmt: skip
    elif operation == _EMBED:
        kernels.embed_rows(a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], first, last)
    elif operation == _BEGIN:
        choosing.begin_step(a[3], slots, positions, angle_index)
    else:
        choosing.choose_tokens(a[3], first, last)
