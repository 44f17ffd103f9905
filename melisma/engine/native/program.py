"""A step as a list of operations on fixed addresses, and the threads that run it.

`Program` collects operations (`operations.py`) on numpy arrays, which it keeps alive; `run` goes
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

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from melisma.engine.native import attention, matmul, operations, sampler
from melisma.engine.native.attention import scratch_size
from melisma.engine.native.matmul import BFLOAT16, FLOAT32, INT4, INT8, TILE
from melisma.engine.native.packing import Packed, aligned_zeros, byte_layout
from melisma.simd.dispatch import compiled
from melisma.simd.selection import selected
from melisma.simd.threads import in_parallel
from melisma.simd.vectors import (
    atomic_add,
    atomic_load,
    atomic_store,
    compare_and_swap,
    longs_at,
    pause,
    yield_core,
)

(
    _EMBED, _NORM, _FLOATS, _QUANTIZED, _ACTIVATE, _REMEMBER, _PAST, _ATTEND, _TEXT, _BEGIN, _CHOOSE
) = range(11)  # fmt: skip
_PIECES, _BY_ROW = 1, 2
"""Fields of an operation: its pieces, and whether each row has so many."""
_FIELDS = 22
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
"""Spins at the number before a waiting thread lets others run (some 50 microseconds)."""


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """Keys and values of one layer."""

    keys: np.ndarray
    """[slot, head, place, number]: float32, bfloat16 as uint16, or int8; as `kv_cache.py` arranges
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


@dataclass(frozen=True, kw_only=True)
class NormWeights:
    """A norm of rows: RMS, or `centred` with a bias (LayerNorm); then scaled and shifted."""

    weight: np.ndarray
    bias: np.ndarray | None
    epsilon: float
    centred: bool
    told: np.ndarray | None = None
    """float32 [slot, 4 * width], of which [told_first * width, + 2 * width) are scale and shift."""
    told_first: int = 0


def _number(argument: Any) -> int:
    """An argument of an operation: an array's address, a number, 0 for None."""
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return argument.ctypes.data
    return 0 if argument is None else int(argument)


class Program:
    """Operations in the order in which they are to be done."""

    def __init__(self, most_rows: int, threads: int, *, distinct: bool = False) -> None:
        """`distinct`: no two rows of a step are of one sequence, so none needs another's key."""
        self.most_rows, self.threads, self.distinct = most_rows, threads, distinct
        self._control = aligned_zeros((_WORDS + _APART * threads,), np.int64)
        self.slots = aligned_zeros((most_rows,), np.int64)
        """Whose past each row belongs to."""
        self.positions = aligned_zeros((most_rows,), np.int64)
        """The place of each row in its sequence, from 0."""
        self.angle_index = aligned_zeros((most_rows,), np.int64)
        """Which angles turn each row."""
        self._spare = self.scratch((threads, 4, TILE))
        self._kept: list[Any] = []
        self._shared: dict[tuple[tuple[int, ...], type], np.ndarray] = {}
        self._operations: list[list[int]] = []
        self._table: np.ndarray | None = None

    def scratch(self, shape: tuple[int, ...], kind: type = np.float32) -> np.ndarray:
        """An array to work in."""
        return aligned_zeros(shape, kind)

    def _add(self, operation: int, *arguments: Any, pieces: int = 1, by_row: bool = False) -> None:
        """`pieces`: that can be done side by side, in all or, `by_row`, of every row."""
        numbers = [pieces, by_row]
        for one in arguments:
            if isinstance(one, np.ndarray):
                self._kept.append(one)
            numbers.append(_number(one))
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

    def _scratch(self, shape: tuple[int, ...], kind: type = np.float32) -> np.ndarray:
        """An array that every operation may use while it lasts."""
        key = shape, kind
        if key not in self._shared:
            self._shared[key] = aligned_zeros(shape, kind)
        return self._shared[key]

    def normalise(self, norm: NormWeights, x: np.ndarray, out: np.ndarray) -> None:
        """A norm of every row, see `kernels.normalise_rows`."""
        self._add(_NORM, self._norm_facts(norm), x, x.shape[1], out, by_row=True)

    def _norm_facts(self, norm: NormWeights) -> np.ndarray:
        """What `_normalise` reads."""
        bits = np.array([norm.epsilon], np.float32).view(np.int32)[0]
        given = [norm.weight, norm.bias, bits, norm.centred, norm.told, norm.told_first]
        self._kept += [one for one in given if isinstance(one, np.ndarray)]
        return np.array([_number(one) for one in given], np.int64)

    def multiply(
        self,
        matrix: Packed,
        x: np.ndarray,
        out: np.ndarray,
        *,
        add: bool,
        norm: NormWeights | None = None,
    ) -> None:
        """out (+)= x times the matrix, after a norm of x; all float32 [row, width].

        Each thread normalises and quantizes the rows for itself: for the few of a step that takes
        less time than to wait until it is done.
        """
        assert x.shape[1] == matrix.inputs
        assert out.shape[1] == matrix.outputs
        kind, rows = _KINDS[matrix.precision], (self.threads, self.most_rows)
        facts = None if norm is None else self._norm_facts(norm)
        normed = None if norm is None else self._scratch((*rows, matrix.inputs))
        before = (matrix.outputs, matrix.inputs, x, facts, normed, self.most_rows, kind)
        after = (matrix.weights, out, add, self._spare)
        if kind in (FLOAT32, BFLOAT16):
            self._add(_FLOATS, *before, *after, pieces=matrix.tiles)
            return
        groups = matrix.inputs // matrix.group_size
        layout = byte_layout(selected(), matrix.precision)
        numbers = self._scratch((*rows, matrix.inputs), (np.int8, np.int16)[layout.x_bytes - 1])
        scales, sums = (self._scratch((*rows, groups), one) for one in (np.float32, np.int32))
        self._add(
            _QUANTIZED, *before, *after, matrix.group_scales, matrix.row_scales, matrix.group_size,
            numbers, layout.x_bytes, layout.zero, scales, sums, pieces=matrix.tiles,
        )  # fmt: skip

    def activate(self, x: np.ndarray, out: np.ndarray, *, gated: bool) -> None:
        """GELU or SwiGLU, see `kernels.activate_rows`."""
        blocks = -(-out.shape[1] // operations.ACTIVATED)
        self._add(_ACTIVATE, x, out, out.shape[1], gated, pieces=blocks, by_row=True)

    def attend(
        self,
        joined: np.ndarray,
        past: LayerCache,
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
        room = self.scratch((self.threads, scratch_size(window, size)))
        facts = (joined, width, heads, *kept, window, room, room.shape[1], out, angles)
        for operation in (_ATTEND,) if self.distinct else (_REMEMBER, _PAST):
            self._add(operation, *facts, pieces=heads, by_row=True)

    def attend_text(
        self,
        query: np.ndarray,
        told: LayerCache,
        lengths: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Every row attends to the text of its slot."""
        _, heads, longest, size = told.keys.shape
        room = self.scratch((self.threads, scratch_size(longest, size)))
        self._add(
            _TEXT, query, query.shape[1], heads, told.keys, told.values, told.kind, longest,
            lengths, room, room.shape[1], out, pieces=heads, by_row=True,
        )  # fmt: skip

    def begin_step(self, drawing: sampler.BatchState) -> None:
        """The rows of a step begin from the tokens drawn before (call first)."""
        self._add(_BEGIN, drawing.table)

    def sample(self, drawing: sampler.BatchState) -> None:
        """The next tokens are drawn from the logits (call last)."""
        self._add(_CHOOSE, drawing.table)

    def run(self, rows: int, steps: int = 1) -> None:
        """Every operation once on the first `rows` rows, `steps` times over."""
        assert 0 < rows <= self.most_rows
        if self._table is None:
            self._table = np.array(self._operations, np.int64)
        shared: list[Any] = [
            self._table, steps, self._control, self.slots.ctypes.data, self.positions.ctypes.data,
            self.angle_index.ctypes.data,
        ]  # fmt: skip
        # Two programs that each held some of the threads would wait for the others for ever.
        with _ONE_AT_A_TIME:
            self._control[:] = 0
            self._control[_ROWS] = rows
            parts = [(*shared, thread, self.threads) for thread in range(self.threads)]
            in_parallel(_run, parts, self.threads)


_ONE_AT_A_TIME = threading.Lock()


@compiled
def _pieces(operation, rows):
    """Pieces of an operation."""
    if operation[0] == _CHOOSE:
        return sampler.sampled_levels(operation[3])
    return operation[_PIECES] * (rows if operation[_BY_ROW] else 1)


@compiled
def _claim(word, number, chunks):
    """The next chunk of the operation `number` that a thread's word leaves, or -1 where none of its
    `chunks` is left."""
    while chunks > 0:
        seen = atomic_load(word)
        of = seen >> _CHUNK_BITS
        chunk = seen & ((1 << _CHUNK_BITS) - 1) if of == number else 0
        if of > number or chunk >= chunks:
            return -1
        if compare_and_swap(word, seen, (number << _CHUNK_BITS) + chunk + 1):
            return chunk
    return -1


@compiled
def _run(table, steps, control, slots, positions, angle_index, thread, threads):
    """What one thread does until all steps are done."""
    base = control.ctypes.data
    present, done, words = base + 8 * _NUMBER, base + 8 * _DONE, base + 8 * _WORDS
    rows, operations = control[_ROWS], table.shape[0]
    number, spins = 0, 0
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
                begin = (first + chunk) * pieces // chunks
                end = (first + chunk + 1) * pieces // chunks
                _do(
                    operation, rows, slots, positions, angle_index, begin, end, thread,
                    finished == 0,
                )  # fmt: skip
                finished += 1
                chunk = _claim(words + 8 * _APART * owner, number, last - first)
        if finished > 0 and atomic_add(done, finished) + finished == chunks:
            atomic_store(done, 0)
            number += 1
            atomic_store(present, number)
            continue
        spins = 0
        while atomic_load(present) == number:
            pause()
            spins += 1
            if spins > _PATIENCE:
                yield_core()
        number = atomic_load(present)


@compiled
def _normalise(norm, x, width, out, slots, first, last):
    """A norm of rows, of which `Program._norm_facts` says what it is."""
    n = longs_at(norm)
    operations.normalise_rows(x, out, n[0], n[1], width, n[2], n[3], n[4], n[5], slots, first, last)


@compiled
def _do(a, rows, slots, positions, angle_index, first, last, thread, fresh):
    """The pieces of an operation from `first` to before `last`; `fresh`: the first that this thread
    does of it."""
    operation = a[0]
    if operation in (_FLOATS, _QUANTIZED):
        outputs, inputs, x, most_rows, kind = a[3], a[4], a[5], a[8], a[9]
        weights, out, add, spare = a[10], a[11], a[12], a[13]
        if a[6] != 0:
            normed = a[7] + 4 * thread * most_rows * inputs
            if fresh:
                _normalise(a[6], x, inputs, normed, slots, 0, rows)
            x = normed
        if operation == _FLOATS:
            matmul.multiply_floats(
                kind, weights, outputs, inputs, x, out, add, spare, rows, first, last, thread
            )
            return
        group_size, x_bytes, groups = a[16], a[18], inputs // a[16]
        numbers = a[17] + thread * most_rows * inputs * x_bytes
        scales, sums = (
            a[20] + 4 * thread * most_rows * groups,
            a[21] + 4 * thread * most_rows * groups,
        )
        if fresh:
            matmul.quantize_rows(x, inputs, group_size, numbers, x_bytes, scales, sums, a[19], rows)
        matmul.multiply_quantized(
            kind, weights, a[14], a[15], outputs, inputs, group_size, numbers, scales, sums, out,
            add, spare, rows, first, last, thread,
        )  # fmt: skip
    elif operation == _NORM:
        _normalise(a[3], a[4], a[5], a[6], slots, first, last)
    elif operation == _ACTIVATE:
        operations.activate_rows(a[3], a[4], a[5], a[6], first, last)
    elif operation in (_REMEMBER, _PAST, _ATTEND):
        if operation != _PAST:
            attention.append_kv(
                a[3], a[4], a[5], a[16], angle_index, a[6], a[7], a[8], a[9], a[10], a[11], slots,
                positions, first, last,
            )  # fmt: skip
        if operation != _REMEMBER:
            attention.attend_cache(
                a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], slots, positions,
                a[13], a[14], a[15], first, last, thread,
            )  # fmt: skip
    elif operation == _TEXT:
        attention.attend_text(
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], slots, a[11], a[12], a[13], first,
            last, thread,
        )  # fmt: skip
    elif operation == _EMBED:
        operations.embed_rows(a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], first, last)
    elif operation == _BEGIN:
        sampler.begin_step(a[3], slots, positions, angle_index)
    else:
        sampler.sample_tokens(a[3], first, last)
