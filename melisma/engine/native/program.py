"""A decoding step as a table of operations on fixed addresses, and the threads that execute it.

`Program` collects operations (`operations.py`, `matmul.py`, ...) on numpy arrays, which it keeps
alive; `run` executes them on all threads. The number of rows, and which sequence each row belongs
to, are read from arrays that the caller fills before: one program serves every step.

The operation table, int64, has a row per operation; arrays are given by their addresses:

    column           0          1           2       3 ...
                     operation  work items  by row  arguments

    EMBED            3 tables  4 levels  5 first extra  6 first index  7 second extra
                     8 second index  9 tokens  10 width  11 out
    NORM             3 norm  4 x  5 width  6 out
    MATMUL_FLOAT     3 dtype  4 weights  5 outputs  6 inputs  7 x  8 norm  9 normed x  10 max rows
                     11 out  12 add  13 tile scratch
    MATMUL_INT       the same, and 14 group scales  15 row scales  16 group size
                     17 quantized x  18 bytes of one  19 zero point  20 x scales  21 x sums
    ACTIVATION       3 x  4 out  5 width  6 gated
    APPEND_KV, ATTEND_CACHE, APPEND_AND_ATTEND
                     3 qkv  4 width  5 heads  6 keys  7 key scales  8 values  9 value scales
                     10 dtype  11 capacity  12 window  13 scratch  14 scratch width  15 out
                     16 angles
    ATTEND_TEXT      3 query ... 11 capacity as above  12 lengths  13 scratch  14 scratch width
                     15 out
    BEGIN_STEP, SAMPLE
                     3 table of the batch state

    Column 1 is the number of work items, of every row of the batch where column 2 is 1.

**How threads share the work.** An operation is cut into work items (tiles of a matrix, heads,
rows), and these into chunks, of which each thread owns some. A thread claims its own chunks one
after another, and when none is left, those of other threads (work stealing). A chunk is claimed by
an atomic compare-and-swap of the owner's word. Whoever finishes the last chunk publishes the number
of the next operation. So nobody waits for a thread that the system has suspended, unless it is in
the middle of a chunk: beside other busy programs the remaining threads take over its work. Results
do not depend on which thread computes them. The control array, int64, each field in a cache line of
its own:

    index   0      8                    16               24                 32              ...
            rows   operation number     chunks finished  word of thread 0   word of thread 1

    word:   | operation number (44 bits) | next chunk (20 bits) |
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from melisma.engine.native import attention, matmul, operations, sampler
from melisma.engine.native.attention import scratch_size
from melisma.engine.native.kv_cache import LayerCache
from melisma.engine.native.matmul import BFLOAT16, FLOAT32, INT4, INT8, TILE
from melisma.engine.native.packing import Packed, aligned_zeros, byte_layout
from melisma.engine.native.pointers import (
    CachePointers,
    EmbeddingPointers,
    FloatMatrix,
    IntMatrix,
    NormPointers,
    QuantizedRows,
    RowPointers,
)
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
    _EMBED, _NORM, _MATMUL_FLOAT, _MATMUL_INT, _ACTIVATION, _APPEND_KV, _ATTEND_CACHE,
    _APPEND_AND_ATTEND, _ATTEND_TEXT, _BEGIN_STEP, _SAMPLE,
) = range(11)  # fmt: skip
_ITEMS, _BY_ROW = 1, 2
"""Columns of the operation table: work items, and whether every row of the batch has as many."""
_COLUMNS = 22
_DTYPES = {"float32": FLOAT32, "bfloat16": BFLOAT16, "int8": INT8, "int4": INT4}
_ROWS, _NUMBER, _FINISHED, _WORDS = 0, 8, 16, 24
"""Fields of the control array: rows, number of the current operation, its finished chunks, and the
word of each thread."""
_FIELD_STRIDE = 8
"""int64 numbers from one field to the next: a cache line."""
_CHUNK_BITS = 20
"""Bits of a word that count chunks; an operation has far fewer."""
_CHUNKS_PER_THREAD = 4
"""Chunks of a large operation that each thread owns (chosen: with two threads, a suspended one
withholds an eighth of an operation)."""
_MAX_SPINS = 2_000
"""Spins of a waiting thread before it yields its core (some 50 microseconds)."""


@dataclass(frozen=True, kw_only=True)
class NormWeights:
    """A normalization: RMSNorm or LayerNorm, then scaled and shifted by a modulation."""

    weight: np.ndarray
    """float32 [width]."""
    bias: np.ndarray | None
    """float32 [width], for LayerNorm."""
    epsilon: float
    centred: bool
    """True for LayerNorm, false for RMSNorm."""
    modulation: np.ndarray | None = None
    """float32 [sequence, 4 * width], of which two parts are scale and shift."""
    modulation_offset: int = 0
    """The first of the two parts, 0 or 2."""


def _address_or_number(argument: Any) -> int:
    """An argument of an operation: the address of an array, a number, or 0 for None."""
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return argument.ctypes.data
    return 0 if argument is None else int(argument)


class Program:
    """A sequence of operations, executed by several threads."""

    def __init__(self, max_rows: int, threads: int, *, distinct: bool = False) -> None:
        """An empty program.

        Args:
            max_rows: Most rows of a step.
            threads: Threads that execute it.
            distinct: Whether all rows of a step are of different sequences, so that no row needs
                the key of another.
        """
        self.max_rows, self.threads, self.distinct = max_rows, threads, distinct
        self._control = aligned_zeros((_WORDS + _FIELD_STRIDE * threads,), np.int64)
        self.sequence_index = aligned_zeros((max_rows,), np.int64)
        """Sequence of each row: its index in the KV cache."""
        self.positions = aligned_zeros((max_rows,), np.int64)
        """Position of each row in its sequence, from 0."""
        self.angle_index = aligned_zeros((max_rows,), np.int64)
        """Row of the table of rotary angles, for each row."""
        self._tile_scratch = self.scratch((threads, 4, TILE))
        self._referenced: list[Any] = []
        self._shared: dict[tuple[tuple[int, ...], type], np.ndarray] = {}
        self._operations: list[list[int]] = []
        self._table: np.ndarray | None = None

    def scratch(self, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """A new array for inputs, outputs and intermediate results."""
        return aligned_zeros(shape, dtype)

    def _shared_scratch(self, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """An array that all operations share, each for its own duration."""
        key = shape, dtype
        if key not in self._shared:
            self._shared[key] = aligned_zeros(shape, dtype)
        return self._shared[key]

    def _add(self, operation: int, *arguments: Any, items: int = 1, by_row: bool = False) -> None:
        """Appends a row to the operation table.

        Args:
            operation: Its number.
            arguments: Columns 3 and following; arrays are kept alive.
            items: Work items, in total or, with `by_row`, of every row of the batch.
            by_row: See `items`.
        """
        numbers = [items, by_row]
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                self._referenced.append(argument)
            numbers.append(_address_or_number(argument))
        assert len(numbers) < _COLUMNS
        self._operations.append([operation, *numbers] + [0] * (_COLUMNS - 1 - len(numbers)))
        self._table = None

    def embed(
        self,
        tables: list[np.ndarray],
        tokens: np.ndarray,
        extras: tuple[np.ndarray, np.ndarray],
        indices: tuple[np.ndarray, np.ndarray],
        out: np.ndarray,
    ) -> None:
        """Sums of token embeddings and of rows of two extra tables.

        Args:
            tables: Of each level, float32 [entry, width].
            tokens: int64 [row, level], -1 for none.
            extras: Two tables, float32 [entry, width].
            indices: Their rows, int64 [row], -1 for none.
            out: float32 [row, width].
        """
        self._referenced += tables
        addresses = np.array([table.ctypes.data for table in tables], np.int64)
        self._add(
            _EMBED, addresses, len(tables), extras[0], indices[0], extras[1], indices[1],
            tokens, out.shape[1], out, by_row=True,
        )  # fmt: skip

    def normalise(self, norm: NormWeights, x: np.ndarray, out: np.ndarray) -> None:
        """Normalizes every row; x and out float32 [row, width]."""
        self._add(_NORM, self._norm_fields(norm), x, x.shape[1], out, by_row=True)

    def _norm_fields(self, norm: NormWeights) -> np.ndarray:
        """The fields of `NormPointers`, int64."""
        bits = np.array([norm.epsilon], np.float32).view(np.int32)[0]
        fields = [
            norm.weight, norm.bias, bits, norm.centred, norm.modulation, norm.modulation_offset
        ]  # fmt: skip
        self._referenced += [field for field in fields if isinstance(field, np.ndarray)]
        return np.array([_address_or_number(field) for field in fields], np.int64)

    def multiply(
        self,
        matrix: Packed,
        x: np.ndarray,
        out: np.ndarray,
        *,
        add: bool,
        norm: NormWeights | None = None,
    ) -> None:
        """out (+)= matrix times x, normalized first if a norm is given.

        Each thread normalizes and quantizes the rows for itself: for the few rows of a step that
        takes less time than waiting for another thread.

        Args:
            matrix: Packed weights.
            x: float32 [row, input].
            out: float32 [row, output].
            add: Whether to accumulate.
            norm: Applied to x, or None.
        """
        assert x.shape[1] == matrix.inputs
        assert out.shape[1] == matrix.outputs
        dtype, rows = _DTYPES[matrix.precision], (self.threads, self.max_rows)
        fields = None if norm is None else self._norm_fields(norm)
        normed = None if norm is None else self._shared_scratch((*rows, matrix.inputs))
        arguments = (
            dtype, matrix.weights, matrix.outputs, matrix.inputs, x, fields, normed, self.max_rows,
            out, add, self._tile_scratch,
        )  # fmt: skip
        if dtype in (FLOAT32, BFLOAT16):
            self._add(_MATMUL_FLOAT, *arguments, items=matrix.tiles)
            return
        groups = matrix.inputs // matrix.group_size
        layout = byte_layout(selected(), matrix.precision)
        integer = (np.int8, np.int16)[layout.activation_bytes - 1]
        quantized = self._shared_scratch((*rows, matrix.inputs), integer)
        scales, sums = (self._shared_scratch((*rows, groups), t) for t in (np.float32, np.int32))
        self._add(
            _MATMUL_INT, *arguments, matrix.group_scales, matrix.row_scales, matrix.group_size,
            quantized, layout.activation_bytes, layout.zero_point, scales, sums, items=matrix.tiles,
        )  # fmt: skip

    def activate(self, x: np.ndarray, out: np.ndarray, *, gated: bool) -> None:
        """GELU of x float32 [row, width], or with `gated` SwiGLU of x [row, 2 * width]."""
        blocks = -(-out.shape[1] // operations.ACTIVATED)
        self._add(_ACTIVATION, x, out, out.shape[1], gated, items=blocks, by_row=True)

    def attend(
        self,
        qkv: np.ndarray,
        cache: LayerCache,
        window: int,
        angles: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Appends keys and values to the cache and attends to the cache, causally.

        Args:
            qkv: float32 [row, 3 * width].
            cache: Of the layer.
            window: Most positions attended to, the own one included.
            angles: Rotary angles float32 [angle index, 2 * head size], or None.
            out: float32 [row, width].
        """
        _, heads, capacity, size = cache.keys.shape
        window = min(window, capacity)
        scratch = self.scratch((self.threads, scratch_size(window, size)))
        arguments = (
            qkv, out.shape[1], heads, *cache.fields(), window, scratch, scratch.shape[1], out,
            angles,
        )  # fmt: skip
        # Where rows need each other's keys, all are appended before any row attends.
        for operation in (_APPEND_AND_ATTEND,) if self.distinct else (_APPEND_KV, _ATTEND_CACHE):
            self._add(operation, *arguments, items=heads, by_row=True)

    def attend_text(
        self, query: np.ndarray, text: LayerCache, lengths: np.ndarray, out: np.ndarray
    ) -> None:
        """Cross-attention of every row to the text of its sequence.

        Args:
            query: float32 [row, width].
            text: Keys and values of the texts.
            lengths: int64 [sequence], tokens of each text.
            out: float32 [row, width].
        """
        _, heads, longest, size = text.keys.shape
        scratch = self.scratch((self.threads, scratch_size(longest, size)))
        self._add(
            _ATTEND_TEXT, query, query.shape[1], heads, *text.fields(), lengths, scratch,
            scratch.shape[1], out, items=heads, by_row=True,
        )  # fmt: skip

    def begin_step(self, batch: sampler.BatchState) -> None:
        """Reads the tokens of the previous step; the first operation of a program that samples."""
        self._add(_BEGIN_STEP, batch.table)

    def sample(self, batch: sampler.BatchState) -> None:
        """Samples tokens from the logits; the last operation."""
        self._add(_SAMPLE, batch.table)

    def run(self, rows: int, steps: int = 1) -> None:
        """Executes all operations on the first `rows` rows, `steps` times."""
        assert 0 < rows <= self.max_rows
        if self._table is None:
            self._table = np.array(self._operations, np.int64)
        shared: list[Any] = [
            self._table, steps, self._control, self.sequence_index.ctypes.data,
            self.positions.ctypes.data, self.angle_index.ctypes.data,
        ]  # fmt: skip
        # Two programs that each held some of the threads would wait for the others for ever.
        with _ONE_AT_A_TIME:
            self._control[:] = 0
            self._control[_ROWS] = rows
            parts = [(*shared, thread, self.threads) for thread in range(self.threads)]
            in_parallel(_run, parts, self.threads)


_ONE_AT_A_TIME = threading.Lock()


@compiled
def _item_count(operation, rows):
    """Work items of an operation."""
    if operation[0] == _SAMPLE:
        return sampler.sampled_levels(operation[3])
    return operation[_ITEMS] * (rows if operation[_BY_ROW] else 1)


@compiled
def _claim(word, number, chunks):
    """Claims a chunk of the operation `number` from a thread's word.

    Returns:
        The chunk, or -1 where none of the thread's `chunks` is left.
    """
    while chunks > 0:
        seen = atomic_load(word)
        operation = seen >> _CHUNK_BITS
        chunk = seen & ((1 << _CHUNK_BITS) - 1) if operation == number else 0
        if operation > number or chunk >= chunks:
            return -1
        if compare_and_swap(word, seen, (number << _CHUNK_BITS) + chunk + 1):
            return chunk
    return -1


@compiled
def _run(table, steps, control, sequence_index, positions, angle_index, thread, threads):
    """What one thread executes until all steps are finished."""
    rows = RowPointers(sequence_index, positions, angle_index)
    base = control.ctypes.data
    current, finished = base + 8 * _NUMBER, base + 8 * _FINISHED
    words, row_count, operations = base + 8 * _WORDS, control[_ROWS], table.shape[0]
    number, spins = 0, 0
    while number < steps * operations:
        operation = table[number % operations]
        items = _item_count(operation, row_count)
        chunks = max(1, min(items, threads * _CHUNKS_PER_THREAD if threads > 1 else 1))
        # Own chunks first, then those of the other threads.
        done = 0
        for distance in range(threads):
            owner = (thread + distance) % threads
            word = words + 8 * _FIELD_STRIDE * owner
            first, last = owner * chunks // threads, (owner + 1) * chunks // threads
            chunk = _claim(word, number, last - first)
            while chunk >= 0:
                begin = (first + chunk) * items // chunks
                end = (first + chunk + 1) * items // chunks
                _execute(operation, row_count, rows, begin, end, thread, done == 0)
                done += 1
                chunk = _claim(word, number, last - first)
        # The last chunk of all: publish the next operation.
        if done > 0 and atomic_add(finished, done) + done == chunks:
            atomic_store(finished, 0)
            number += 1
            atomic_store(current, number)
            continue
        # Wait for the next operation.
        spins = 0
        while atomic_load(current) == number:
            pause()
            spins += 1
            if spins > _MAX_SPINS:
                yield_core()
        number = atomic_load(current)


@compiled
def _normalise(norm, x, width, out, rows, first, last):
    """Normalizes rows, with a norm as `Program._norm_fields` describes it."""
    n = longs_at(norm)
    pointers = NormPointers(n[0], n[1], n[2], n[3], n[4], n[5])
    operations.normalise_rows(pointers, x, width, out, rows, first, last)


@compiled
def _matmul(a, row_count, rows, first, last, thread, fresh):
    """Tiles of a matrix product; the columns of `a` are those of the table in the module's
    header."""
    dtype, weights, outputs, inputs, x, max_rows = a[3], a[4], a[5], a[6], a[7], a[10]
    out, add, scratch = a[11], a[12], a[13] + 16 * TILE * thread
    if a[8] != 0:
        normed = a[9] + 4 * thread * max_rows * inputs
        if fresh:
            _normalise(a[8], x, inputs, normed, rows, 0, row_count)
        x = normed
    if a[0] == _MATMUL_FLOAT:
        matrix = FloatMatrix(dtype, weights, outputs, inputs)
        matmul.multiply_floats(matrix, x, out, add, scratch, row_count, first, last)
        return
    group_size, activation_bytes, zero_point = a[16], a[18], a[19]
    before = thread * max_rows * inputs
    group_before = 4 * thread * max_rows * (inputs // group_size)
    quantized = QuantizedRows(
        a[17] + before * activation_bytes, a[20] + group_before, a[21] + group_before
    )
    if fresh:
        matmul.quantize_rows(
            x, inputs, group_size, quantized, activation_bytes, zero_point, row_count
        )
    integers = IntMatrix(dtype, weights, outputs, inputs, a[14], a[15], group_size)
    matmul.multiply_quantized(integers, quantized, out, add, scratch, row_count, first, last)


@compiled
def _attention(a, rows, first, last, thread):
    """Heads of self-attention or cross-attention; the columns of `a` are those of the table in the
    module's header."""
    operation, qkv, width, heads = a[0], a[3], a[4], a[5]
    cache = CachePointers(a[6], a[7], a[8], a[9], a[10], a[11])
    window, scratch, out = a[12], a[13] + 4 * thread * a[14], a[15]
    if operation == _ATTEND_TEXT:
        attention.attend_text(qkv, width, heads, cache, a[12], rows, scratch, out, first, last)
        return
    if operation != _ATTEND_CACHE:
        attention.append_kv(qkv, width, heads, a[16], cache, rows, first, last)
    if operation != _APPEND_KV:
        attention.attend_cache(qkv, width, heads, cache, window, rows, scratch, out, first, last)


@compiled
def _execute(a, row_count, rows, first, last, thread, fresh):
    """Executes the work items first, ..., last - 1 of an operation.

    `a`: its row of the operation table. `fresh`: whether they are the first of it that this thread
    executes.
    """
    operation = a[0]
    if operation in (_MATMUL_FLOAT, _MATMUL_INT):
        _matmul(a, row_count, rows, first, last, thread, fresh)
    elif operation == _NORM:
        _normalise(a[3], a[4], a[5], a[6], rows, first, last)
    elif operation == _ACTIVATION:
        operations.activate_rows(a[3], a[4], a[5], a[6], first, last)
    elif operation in (_APPEND_KV, _ATTEND_CACHE, _APPEND_AND_ATTEND, _ATTEND_TEXT):
        _attention(a, rows, first, last, thread)
    elif operation == _EMBED:
        embedding = EmbeddingPointers(a[3], a[4], a[5], a[6], a[7], a[8])
        operations.embed_rows(embedding, a[9], a[10], a[11], first, last)
    elif operation == _BEGIN_STEP:
        sampler.begin_step(a[3], rows)
    else:
        sampler.sample_tokens(a[3], first, last)
