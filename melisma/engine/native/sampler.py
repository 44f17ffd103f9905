"""The ends of a step: which tokens go in, and which are drawn from the logits that come out.

With these two operations (`Program.draw`, `Program.choose`) many steps run one after another
without leaving native code. Each request has one row, or with guidance two (what is told, and
nothing), a length of its own, and noise of its own, so that it comes out the same whatever its
neighbours are. The order in which levels are drawn is that of a codebook pattern: level l of frame
f at step
`f * stride + offsets[l]` (MusicGen, 2306.05284, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melisma.engine.native.packing import aligned_zeros
from melisma.simd.activation import exponential
from melisma.simd.dispatch import compiled, compiled_exactly
from melisma.simd.vectors import bits_of_float, floats_at, longs_at, sum_floats

(
    _ACTIVE_COUNT, _ACTIVE, _BRANCHES, _LEVELS, _VOCABULARY, _OFFSETS, _STRIDE, _LOGITS, _GRID,
    _STEPS, _STEP, _FRAMES, _KNOWN, _TOKENS, _FRAME_INDEX, _FRAME_BASE, _PLACE_INDEX, _BEFORE,
    _NOISE, _NOISE_STEPS, _TEMPERATURE, _TOP_K, _TOP_P, _GUIDANCE,
) = range(24)  # fmt: skip


class BatchState:
    """Everything that is known about the requests that are drawn side by side.

    Arrays that the caller fills: `grid` int64 [request, level, step] with the tokens that are given
    (others the vocabulary's size, for none), `frames` and `known` int64 [request]: frames in all
    and those given; `frame_base` int64 [request * branch]: first row of its frames in the first
    extra table of the embedding, -1 for none; `before` int64 [request]: places taken by a prefix;
    `noise` float32 [request, noise step, level, vocabulary], exponential; `temperature` (0: the
    likeliest),
    `top_k` (0: all), `top_p` (1: all), `guidance` of each request; `step` int64 [request]: the
    next.
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
        placed: bool,
    ) -> None:
        """`placed`: the second extra table of the embedding is by place."""
        levels, rows = len(offsets), requests * branches
        self.requests, self.branches, self.levels = requests, branches, levels
        self.active = aligned_zeros((requests,), np.int64)
        self.active[:] = np.arange(requests)
        self.offsets = aligned_zeros((levels,), np.int64)
        self.offsets[:] = offsets
        self.logits = aligned_zeros((rows, levels * vocabulary), np.float32)
        self.grid = aligned_zeros((requests, levels, steps), np.int64)
        self.grid[:] = vocabulary
        self.step, self.frames, self.known, self.before, self.top_k = (
            aligned_zeros((requests,), np.int64) for _ in range(5)
        )
        self.temperature, self.top_p, self.guidance = (
            aligned_zeros((requests,), np.float32) for _ in range(3)
        )
        self.tokens = aligned_zeros((rows, levels), np.int64)
        self.frame_index, self.frame_base, self.place_index = (
            aligned_zeros((rows,), np.int64) for _ in range(3)
        )
        self.noise = aligned_zeros((requests, noise_steps, levels, vocabulary), np.float32)
        self.table = aligned_zeros((24,), np.int64)
        fields: dict[int, np.ndarray | int] = {
            _ACTIVE: self.active, _BRANCHES: branches, _LEVELS: levels, _VOCABULARY: vocabulary,
            _OFFSETS: self.offsets, _STRIDE: stride, _LOGITS: self.logits, _GRID: self.grid,
            _STEPS: steps, _STEP: self.step, _FRAMES: self.frames, _KNOWN: self.known,
            _TOKENS: self.tokens, _FRAME_INDEX: self.frame_index, _FRAME_BASE: self.frame_base,
            _PLACE_INDEX: self.place_index if placed else 0, _BEFORE: self.before,
            _NOISE: self.noise, _NOISE_STEPS: noise_steps, _TEMPERATURE: self.temperature,
            _TOP_K: self.top_k, _TOP_P: self.top_p, _GUIDANCE: self.guidance,
        }  # fmt: skip
        for place, value in fields.items():
            self.table[place] = value.ctypes.data if isinstance(value, np.ndarray) else value
        if not placed:
            self.place_index[:] = -1
        self.keep(np.arange(requests))

    def keep(self, requests: np.ndarray) -> int:
        """Only these requests go on; returns the rows that they take."""
        self.active[: len(requests)] = requests
        self.table[_ACTIVE_COUNT] = len(requests)
        return len(requests) * self.branches


@compiled_exactly
def begin_step(table, slots, positions, angle_index):
    """Rows of the requests that go on: tokens of the step before, frame and place of this one. One
    piece."""
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
        place = longs_at(fields[_BEFORE])[request] + step
        for branch in range(branches):
            row, slot = number * branches + branch, request * branches + branch
            for level in range(levels):
                token = fields[_VOCABULARY]
                if step > 0:
                    token = grid[(request * levels + level) * steps + step - 1]
                tokens[row * levels + level] = token
            base = frame_base[slot]
            frame_index[row] = base + frame if base >= 0 else -1
            if fields[_PLACE_INDEX] != 0:
                longs_at(fields[_PLACE_INDEX])[row] = place
            longs_at(slots)[row] = slot
            longs_at(positions)[row] = place
            longs_at(angle_index)[row] = place


@compiled_exactly
def sampled_levels(table):
    """Pieces of `sample_tokens`."""
    fields = longs_at(table)
    return fields[_ACTIVE_COUNT] * fields[_LEVELS]


@compiled_exactly
def sample_tokens(table, first, last):
    """Draws what this step draws. Pieces: levels of all requests."""
    fields = longs_at(table)
    levels, vocabulary = fields[_LEVELS], fields[_VOCABULARY]
    branches, steps = fields[_BRANCHES], fields[_STEPS]
    for one in range(first, last):
        number, level = one // levels, one % levels
        request = longs_at(fields[_ACTIVE])[number]
        step = longs_at(fields[_STEP])[request] - 1
        distance = step - longs_at(fields[_OFFSETS])[level]
        stride = fields[_STRIDE]
        if distance < 0 or distance % stride != 0:
            continue
        frame = distance // stride
        if frame < longs_at(fields[_KNOWN])[request] or frame >= longs_at(fields[_FRAMES])[request]:
            continue
        width = levels * vocabulary
        told = fields[_LOGITS] + 4 * (number * branches * width + level * vocabulary)
        noise_steps = fields[_NOISE_STEPS]
        noise = fields[_NOISE] + 4 * vocabulary * (
            (request * noise_steps + step % noise_steps) * levels + level
        )
        token = sample_next_token(
            told,
            told + 4 * width * (branches - 1),
            noise,
            vocabulary,
            floats_at(fields[_TEMPERATURE])[request],
            longs_at(fields[_TOP_K])[request],
            floats_at(fields[_TOP_P])[request],
            floats_at(fields[_GUIDANCE])[request],
        )
        longs_at(fields[_GRID])[(request * levels + level) * steps + step] = token


@compiled
def sample_next_token(told, untold, noise, vocabulary, temperature, top_k, top_p, guidance):
    """One token, as `melisma.engine.generate.choose` draws it."""
    a, b, chance = floats_at(told), floats_at(untold), floats_at(noise)
    logits, shares = np.empty(vocabulary, np.float32), np.empty(vocabulary, np.float32)
    order = np.empty(vocabulary, np.int32)
    most = np.float32(-3e38)
    for i in range(vocabulary):
        logits[i] = b[i] + guidance * (a[i] - b[i])
        most = max(most, logits[i])
    if temperature == 0:
        return _first(logits, most)
    least = np.int32(-(2**31))
    for i in range(vocabulary):
        order[i] = _ordered(logits[i])
    if 0 < top_k < vocabulary:
        least = _rank_threshold(order, top_k)
    for i in range(vocabulary):
        share = exponential((logits[i] - most) / temperature)
        shares[i] = share if order[i] >= least else np.float32(0.0)
    if top_p < 1:
        total = sum_floats(shares.ctypes.data, vocabulary)
        smallest = _weight_threshold(shares, top_p * total)
        for i in range(vocabulary):
            shares[i] = shares[i] if _ordered(shares[i]) >= smallest else np.float32(0.0)
    highest = np.float32(0.0)
    for i in range(vocabulary):
        shares[i] /= max(chance[i], np.float32(1e-20))
        highest = max(highest, shares[i])
    return _first(shares, highest)


@compiled
def _first(values, wanted):
    """The first place of a value that is there."""
    for i in range(len(values)):
        if values[i] == wanted:
            return i
    return 0


@compiled
def _ordered(number):
    """An int32 that stands to others as its float32 stands to theirs."""
    bits = bits_of_float(number)
    return bits if bits >= 0 else np.int32(bits ^ np.int32(0x7FFFFFFF))


@compiled
def _rank_threshold(order, count):
    """The smallest of these numbers that less than `count` of them exceed: the `count` largest are
    it and above. Found by halving, one bit at a time."""
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
def _weight_threshold(shares, enough):
    """The smallest `_ordered` share such that those above it come to less than `enough`."""
    low, high = np.int64(0), np.int64(_ordered(np.float32(1.0)))
    kept = np.empty(len(shares), np.float32)
    while low < high:
        middle = (low + high) // 2
        edge = np.int32(middle)
        for i in range(len(shares)):
            kept[i] = shares[i] if _ordered(shares[i]) > edge else np.float32(0.0)
        if sum_floats(kept.ctypes.data, len(shares)) < enough:
            high = middle
        else:
            low = middle + 1
    return np.int32(low)
