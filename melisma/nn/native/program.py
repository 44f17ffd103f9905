"""A step as a list of operations on fixed addresses, and the threads that run it.

`Program` collects operations (`kernels.py`) on numpy arrays, which it keeps alive; `run` goes
through them on all threads, with a barrier after each. How many rows count, and where each row
belongs, is read from arrays that the caller fills before: one program serves every step.
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
from melisma.nn.native.packing import Packed, empty
from melisma.nn.native.products import BFLOAT16, FLOAT32, INT4, INT8, VNNI
from melisma.nn.native.vectors import TILE, add_to, give_way, look_at, rest

_EMBED, _NORM, _ROUND, _FLOATS, _WHOLES, _ACTIVATE, _REMEMBER, _PAST, _TEXT, _BEGIN, _CHOOSE = (
    range(11)
)
_FIELDS = 16
_KINDS = {"float32": FLOAT32, "bfloat16": BFLOAT16, "int8": INT8, "int4": INT4}
_PATIENCE = 20_000
"""Looks at a barrier before a waiting thread lets others run (about half a millisecond)."""


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

    def __init__(self, most_rows: int, threads: int) -> None:
        self.most_rows, self.threads = most_rows, threads
        self.control = empty((8,), np.int64)
        """[rows that count, barrier, requests that draw]."""
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

    def _add(self, operation: int, *arguments: Any) -> None:
        numbers = []
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
            extras[0], indices[0], extras[1], indices[1], out,
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
            _NORM, x, out, weight, bias, x.shape[1], bits, centred, told, told_first
        )  # fmt: skip

    def multiply(self, matrix: Packed, x: np.ndarray, out: np.ndarray, *, add: bool) -> None:
        """out (+)= x times the matrix; all float32 [row, width]."""
        assert x.shape[1] == matrix.inputs
        assert out.shape[1] == matrix.outputs
        kind = _KINDS[matrix.precision]
        if kind in (FLOAT32, BFLOAT16):
            self._add(
                _FLOATS, kind, matrix.weights, matrix.outputs, matrix.inputs, x, out, add,
                self._spare,
            )  # fmt: skip
            return
        groups = matrix.inputs // matrix.group_size
        scales = sums = None
        if VNNI:
            numbers = self.room((self.most_rows, matrix.inputs), np.int8)
            scales = self.room((self.most_rows, groups))
            sums = self.room((self.most_rows, groups), np.int32)
            zero = 128 if kind == INT8 else 8
            self._add(_ROUND, x, matrix.inputs, matrix.group_size, numbers, scales, sums, zero)
            x = numbers
        self._add(
            _WHOLES, kind, matrix.weights, matrix.group_scales, matrix.row_scales, matrix.outputs,
            matrix.inputs, matrix.group_size, x, scales, sums, out, add, self._spare,
        )  # fmt: skip

    def activate(self, x: np.ndarray, out: np.ndarray, *, gated: bool) -> None:
        """GELU or SwiGLU, see `kernels.activate_rows`."""
        self._add(_ACTIVATE, x, out, out.shape[1], gated)

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
        self._add(_REMEMBER, joined, width, heads, angles, *kept)
        room = self.room((self.threads, room_of(window, size)))
        self._add(_PAST, joined, width, heads, *kept, window, room, room.shape[1], out)

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
            lengths, room, room.shape[1], out,
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
        self.control[0], self.control[1] = rows, 0
        shared: list[Any] = [
            self._table, steps, self.control, self.slots.ctypes.data, self.positions.ctypes.data,
            self.angle_index.ctypes.data,
        ]  # fmt: skip
        # Two programs that each held some of the threads would wait for the others for ever.
        with _ONE_AT_A_TIME:
            others = [
                _pool(self.threads).submit(_run, *shared, part, self.threads)
                for part in range(1, self.threads)
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
def _wait(counter, parts):
    """Until all threads have come here."""
    if parts == 1:
        return
    ticket = add_to(counter, 1)
    goal = (ticket // parts + 1) * parts
    looks = 0
    while look_at(counter) < goal:
        rest()
        looks += 1
        if looks > _PATIENCE:
            give_way()


@compiled
def _run(table, steps, control, slots, positions, angle_index, part, parts):
    counter = control.ctypes.data + 8
    rows = control[0]
    for _ in range(steps):
        for number in range(table.shape[0]):
            a = table[number]
            operation = a[0]
            if operation == _FLOATS:
                products.multiply_floats(
                    a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], rows, part, parts
                )
            elif operation == _WHOLES:
                products.multiply_wholes(
                    a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12],
                    a[13], rows, part, parts,
                )  # fmt: skip
            elif operation == _ROUND:
                products.round_rows(a[1], a[2], a[3], a[4], a[5], a[6], a[7], rows, part, parts)
            elif operation == _NORM:
                kernels.normalise_rows(
                    a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], slots, rows, part, parts
                )
            elif operation == _ACTIVATE:
                kernels.activate_rows(a[1], a[2], a[3], a[4], rows, part, parts)
            elif operation == _REMEMBER:
                attention.remember_rows(
                    a[1], a[2], a[3], a[4], angle_index, a[5], a[6], a[7], a[8], a[9], a[10],
                    slots, positions, rows, part, parts,
                )  # fmt: skip
            elif operation == _PAST:
                attention.attend_past(
                    a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], slots, positions,
                    a[11], a[12], a[13], rows, part, parts,
                )  # fmt: skip
            elif operation == _TEXT:
                attention.attend_text(
                    a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], slots, a[9], a[10], a[11],
                    rows, part, parts,
                )  # fmt: skip
            elif operation == _EMBED:
                kernels.embed_rows(
                    a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], rows, part, parts
                )
            elif operation == _BEGIN:
                choosing.begin_step(a[1], slots, positions, angle_index, part)
            else:
                choosing.choose_tokens(a[1], part, parts)
            _wait(counter, parts)
