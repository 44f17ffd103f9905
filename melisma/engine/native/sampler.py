"""Batched token sampler: the first and the last operation of a decoding step.

`begin_step` reads the tokens of the previous step, `sample_tokens` samples the next from the
logits; with both, many steps run one after another without leaving native code. Each request has
one row, or two with classifier-free guidance (conditional, then unconditional), a length of its own
and noise of its own, so that its result does not depend on the rest of the batch.

Levels are sampled in the order of a codebook pattern: level l of frame f at step
`f * stride + offsets[l]` (MusicGen, 2306.05284, section 2.2), here offsets (0, 1, 2) and stride 1:

    step        0    1    2    3    4
    level 0    f0   f1   f2   f3   f4
    level 1     -   f0   f1   f2   f3
    level 2     -    -   f0   f1   f2

`BatchState.table`, int64, holds the addresses and sizes that compiled code reads:

    0 active count   1 active   2 branches   3 levels   4 vocabulary   5 offsets   6 stride
    7 logits   8 grid   9 steps   10 step   11 frames   12 known   13 tokens   14 frame index
    15 frame base   16 position index   17 prefix lengths   18 noise   19 noise steps
    20 temperature   21 top k   22 top p   23 guidance
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melisma.engine.native.packing import aligned_zeros
from melisma.simd.activation import exponential
from melisma.simd.dispatch import compiled, compiled_strict
from melisma.simd.vectors import bits_of_float, floats_at, longs_at, sum_floats

(
    _ACTIVE_COUNT, _ACTIVE, _BRANCHES, _LEVELS, _VOCABULARY, _OFFSETS, _STRIDE, _LOGITS, _GRID,
    _STEPS, _STEP, _FRAMES, _KNOWN, _TOKENS, _FRAME_INDEX, _FRAME_BASE, _POSITION_INDEX,
    _PREFIX_LENGTHS, _NOISE, _NOISE_STEPS, _TEMPERATURE, _TOP_K, _TOP_P, _GUIDANCE,
) = range(24)  # fmt: skip
NO_FRAMES = -(1 << 62)
"""`BatchState.frame_base` of a row without inputs per frame."""


class BatchState:
    """State of a batch of requests that are sampled together.

    Arrays that the caller fills:
        grid: int64 [request, level, step], the given tokens; elsewhere the vocabulary's size, which
            stands for none. Sampled tokens are written to it.
        frames, known: int64 [request], frames in total, and given frames.
        step: int64 [request], the next step.
        frame_base: int64 [request * branch], row of frame 0 in the first extra table of the
            embedding, `NO_FRAMES` for none. It is negative where the table begins at a later frame.
        prefix_lengths: int64 [request], positions before the first step.
        noise: float32 [request, noise step, level, vocabulary], exponentially distributed.
        temperature: float32 [request], 0 for greedy decoding.
        top_k: int64 [request], 0 for all tokens.
        top_p: float32 [request], 1 for all tokens.
        guidance: float32 [request], scale of classifier-free guidance.
    """

    def __init__(
        self,
        requests: int,
        branches: int,
        offsets: Sequence[int],
        stride: int,
        vocabulary: int,
        steps: int,
        noise_steps: int,
        *,
        absolute_positions: bool,
    ) -> None:
        """Allocates the arrays.

        Args:
            requests: Requests of the batch.
            branches: Rows of a request: 2 with guidance, else 1.
            offsets: Of each level, in steps.
            stride: Steps from one frame to the next.
            vocabulary: Tokens of a level.
            steps: Steps of the longest request.
            noise_steps: Steps that `noise` holds; it is used again after them.
            absolute_positions: Whether the second extra table of the embedding is indexed by
                position.
        """
        levels, rows = len(offsets), requests * branches
        self.requests, self.branches, self.levels = requests, branches, levels
        self.active = aligned_zeros((requests,), np.int64)
        self.active[:] = np.arange(requests)
        self.offsets = aligned_zeros((levels,), np.int64)
        self.offsets[:] = offsets
        self.logits = aligned_zeros((rows, levels * vocabulary), np.float32)
        self.grid = aligned_zeros((requests, levels, steps), np.int64)
        self.grid[:] = vocabulary
        self.step, self.frames, self.known, self.prefix_lengths, self.top_k = (
            aligned_zeros((requests,), np.int64) for _ in range(5)
        )
        self.temperature, self.top_p, self.guidance = (
            aligned_zeros((requests,), np.float32) for _ in range(3)
        )
        self.tokens = aligned_zeros((rows, levels), np.int64)
        self.frame_index, self.frame_base, self.position_index = (
            aligned_zeros((rows,), np.int64) for _ in range(3)
        )
        self.noise = aligned_zeros((requests, noise_steps, levels, vocabulary), np.float32)
        self.table = aligned_zeros((24,), np.int64)
        fields: dict[int, np.ndarray | int] = {
            _ACTIVE: self.active, _BRANCHES: branches, _LEVELS: levels, _VOCABULARY: vocabulary,
            _OFFSETS: self.offsets, _STRIDE: stride, _LOGITS: self.logits, _GRID: self.grid,
            _STEPS: steps, _STEP: self.step, _FRAMES: self.frames, _KNOWN: self.known,
            _TOKENS: self.tokens, _FRAME_INDEX: self.frame_index, _FRAME_BASE: self.frame_base,
            _POSITION_INDEX: self.position_index if absolute_positions else 0,
            _PREFIX_LENGTHS: self.prefix_lengths, _NOISE: self.noise, _NOISE_STEPS: noise_steps,
            _TEMPERATURE: self.temperature, _TOP_K: self.top_k, _TOP_P: self.top_p,
            _GUIDANCE: self.guidance,
        }  # fmt: skip
        for index, value in fields.items():
            self.table[index] = value.ctypes.data if isinstance(value, np.ndarray) else value
        if not absolute_positions:
            self.position_index[:] = -1
        self.keep(np.arange(requests))

    def keep(self, requests: np.ndarray) -> int:
        """Keeps only these requests active.

        Args:
            requests: int64, their numbers.

        Returns:
            Rows that they occupy.
        """
        self.active[: len(requests)] = requests
        self.table[_ACTIVE_COUNT] = len(requests)
        return len(requests) * self.branches


@compiled_strict
def begin_step(table, rows):
    """Prepares the rows of the active requests: tokens of the previous step, frame and position of
    this one. A single work item.

    Args:
        table: `BatchState.table`.
        rows: `RowPointers`, written.
    """
    fields = longs_at(table)
    levels, branches = fields[_LEVELS], fields[_BRANCHES]
    steps = fields[_STEPS]
    grid, tokens = longs_at(fields[_GRID]), longs_at(fields[_TOKENS])
    frame_index = longs_at(fields[_FRAME_INDEX])
    frame_base = longs_at(fields[_FRAME_BASE])
    for number in range(fields[_ACTIVE_COUNT]):
        request = longs_at(fields[_ACTIVE])[number]
        step = longs_at(fields[_STEP])[request]
        longs_at(fields[_STEP])[request] = step + 1
        frame = min(step // fields[_STRIDE], longs_at(fields[_FRAMES])[request] - 1)
        position = longs_at(fields[_PREFIX_LENGTHS])[request] + step
        for branch in range(branches):
            row, sequence = number * branches + branch, request * branches + branch
            for level in range(levels):
                token = fields[_VOCABULARY]
                if step > 0:
                    token = grid[(request * levels + level) * steps + step - 1]
                tokens[row * levels + level] = token
            base = frame_base[sequence]
            frame_index[row] = base + frame if base != NO_FRAMES else -1
            if fields[_POSITION_INDEX] != 0:
                longs_at(fields[_POSITION_INDEX])[row] = position
            longs_at(rows.sequence_index)[row] = sequence
            longs_at(rows.positions)[row] = position
            longs_at(rows.angle_index)[row] = position


@compiled_strict
def sampled_levels(table):
    """Number of work items of `sample_tokens`: the levels of all active requests."""
    fields = longs_at(table)
    return fields[_ACTIVE_COUNT] * fields[_LEVELS]


@compiled_strict
def sample_tokens(table, first, last):
    """Samples the tokens of this step. Work items: the levels of all active requests."""
    fields = longs_at(table)
    levels, vocabulary = fields[_LEVELS], fields[_VOCABULARY]
    branches, steps = fields[_BRANCHES], fields[_STEPS]
    for item in range(first, last):
        number, level = item // levels, item % levels
        request = longs_at(fields[_ACTIVE])[number]
        step = longs_at(fields[_STEP])[request] - 1
        # The pattern decides which frame of this level, if any, is sampled at this step.
        distance = step - longs_at(fields[_OFFSETS])[level]
        stride = fields[_STRIDE]
        if distance < 0 or distance % stride != 0:
            continue
        frame = distance // stride
        if frame < longs_at(fields[_KNOWN])[request] or frame >= longs_at(fields[_FRAMES])[request]:
            continue
        width = levels * vocabulary
        conditional = fields[_LOGITS] + 4 * (number * branches * width + level * vocabulary)
        noise_steps = fields[_NOISE_STEPS]
        noise = fields[_NOISE] + 4 * vocabulary * (
            (request * noise_steps + step % noise_steps) * levels + level
        )
        token = sample_next_token(
            conditional,
            conditional + 4 * width * (branches - 1),
            noise,
            vocabulary,
            floats_at(fields[_TEMPERATURE])[request],
            longs_at(fields[_TOP_K])[request],
            floats_at(fields[_TOP_P])[request],
            floats_at(fields[_GUIDANCE])[request],
        )
        longs_at(fields[_GRID])[(request * levels + level) * steps + step] = token


@compiled
def sample_next_token(
    conditional, unconditional, noise, vocabulary, temperature, top_k, top_p, guidance
):
    """Samples one token, as `melisma.engine.sampling.sample_next_token` does in PyTorch.

    Args:
        conditional: Logits float32 [vocabulary].
        unconditional: Logits float32 [vocabulary]; the same address without guidance.
        noise: float32 [vocabulary], exponentially distributed: the token with the largest
            probability / noise is a sample (the exponential race, or Gumbel-max trick).
        vocabulary: Number of tokens.
        temperature: 0 for greedy decoding.
        top_k: Tokens to sample from; 0 for all.
        top_p: Nucleus to sample from (1904.09751); 1 for all.
        guidance: Scale of classifier-free guidance (2207.12598).
    """
    a, b, race = floats_at(conditional), floats_at(unconditional), floats_at(noise)
    logits, weights = np.empty(vocabulary, np.float32), np.empty(vocabulary, np.float32)
    order = np.empty(vocabulary, np.int32)
    # Classifier-free guidance.
    largest = np.float32(-3e38)
    for i in range(vocabulary):
        logits[i] = b[i] + guidance * (a[i] - b[i])
        largest = max(largest, logits[i])
    if temperature == 0:
        return _index_of(logits, largest)
    # Softmax weights of the top k, not normalized.
    threshold = np.int32(-(2**31))
    for i in range(vocabulary):
        order[i] = _sortable(logits[i])
    if 0 < top_k < vocabulary:
        threshold = _rank_threshold(order, top_k)
    for i in range(vocabulary):
        weight = exponential((logits[i] - largest) / temperature)
        weights[i] = weight if order[i] >= threshold else np.float32(0.0)
    # Nucleus.
    if top_p < 1:
        total = sum_floats(weights.ctypes.data, vocabulary)
        smallest = _weight_threshold(weights, top_p * total)
        for i in range(vocabulary):
            weights[i] = weights[i] if _sortable(weights[i]) >= smallest else np.float32(0.0)
    # A sample by the exponential race.
    winner = np.float32(0.0)
    for i in range(vocabulary):
        weights[i] /= max(race[i], np.float32(1e-20))
        winner = max(winner, weights[i])
    return _index_of(weights, winner)


@compiled
def _index_of(values, wanted):
    """Index of the first occurrence of a value."""
    for i in range(len(values)):
        if values[i] == wanted:
            return i
    return 0


@compiled
def _sortable(number):
    """float32 -> int32 of the same order."""
    bits = bits_of_float(number)
    return bits if bits >= 0 else np.int32(bits ^ np.int32(0x7FFFFFFF))


@compiled
def _rank_threshold(order, count):
    """The `count`-th largest of int32 numbers, found by bisection, one bit at a time."""
    low, high = np.int64(-(2**31)), np.int64(2**31 - 1)
    while low < high:
        middle = (low + high) // 2
        edge, above = np.int32(middle), np.int32(0)
        for i in range(len(order)):
            above += np.int32(order[i] > edge)
        if above < count:
            high = middle
        else:
            low = middle + 1
    return np.int32(low)


@compiled
def _weight_threshold(weights, mass):
    """The smallest `_sortable` weight such that all larger ones sum to less than `mass`."""
    low, high = np.int64(0), np.int64(_sortable(np.float32(1.0)))
    larger = np.empty(len(weights), np.float32)
    while low < high:
        middle = (low + high) // 2
        edge = np.int32(middle)
        for i in range(len(weights)):
            larger[i] = weights[i] if _sortable(weights[i]) > edge else np.float32(0.0)
        if sum_floats(larger.ctypes.data, len(weights)) < mass:
            high = middle
        else:
            low = middle + 1
    return np.int32(low)
