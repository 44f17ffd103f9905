"""Memory and speed estimates of a model before it is loaded.

Input: sizes of its token models (`StageShape`, from their settings), a `Workload`, and the speed of
the machine (`Rates`, measured by `micro_benchmark.py`). Output: `MemoryEstimate`, seconds, and
`require_memory`, which raises where a model does not fit. Weights are counted as
`melisma.engine.native.packing` lays them out, keys and values as `native.trunk.KVCache` allocates
them; the tests compare both with the engine. Nothing here loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np

from melisma.engine.limits import NOISE_STEPS, PREFILL_ROWS
from melisma.engine.native.kv_cache import padded
from melisma.engine.native.matmul import TILE
from melisma.engine.native.packing import pack
from melisma.files.typed_json import expect_sizes, some_fields
from melisma.sound.stored import MEMORY_BYTES, WHOLE_SAMPLES
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS

PROGRAM_BYTES = 400_000_000
"""Python, torch, numba and the rest of the program without a model (measured: 370 MB with all
modules imported)."""
WORK_BYTES = 300_000_000
"""Working memory of decoding, analysis and mastering besides weights and sound, independent of the
duration: codecs decode in blocks (measured: 100 MB with EnCodec at 32 kHz and one candidate, 290 MB
with our own models, which analyse four)."""
SOUND_COPIES = 16
"""Most float32 copies of a piece that exist at once while it is mastered in memory: decoded,
filtered and limited in float64, oversampled for its true peak (counted in the code)."""
RESERVE = 0.9
"""Share of the available memory that may be used: other programs allocate meanwhile (chosen)."""
_MAX_EXPANSION = 64.0
"""Largest width inside a feed-forward layer over that of the model (chosen: MusicGen has 4)."""


@dataclass(frozen=True, kw_only=True)
class _StageSettings:
    """What of `melisma.lm.TokenModelSettings` decides sizes, with the same defaults."""

    width: int
    levels: int
    layers: int
    heads: int
    pattern: str = "delayed"
    expansion: float = 8 / 3
    first_sampled_level: int = 0
    vocabulary: int = 1024
    window_frames: int = 500
    causal: bool = True
    feed_forward: str = "swiglu"
    norm: str = "rms"
    conditions: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class _ConditionSettings:
    """The same of `melisma.lm.ConditioningSettings`."""

    text_width: int = 0
    text_before: bool = False
    chroma_frames: int = 0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Size of a batch to be generated."""

    seconds: float
    pieces: int = 1
    """Pieces and candidates that are generated in one batch."""
    guidance: bool = True
    """Classifier-free guidance: every piece has a conditional and an unconditional row."""
    text_tokens: int = 32
    """Tokens of the longest text (chosen: a long sentence)."""

    @property
    def branches(self) -> int:
        """Rows per piece."""
        return 2 if self.guidance else 1

    @property
    def rows(self) -> int:
        """Rows of a decoding step."""
        return self.pieces * self.branches


@dataclass(frozen=True, kw_only=True)
class StageShape:
    """Sizes of a token model that determine its memory and speed."""

    width: int
    layers: int
    heads: int
    hidden_width: int
    """Width inside the feed-forward parts."""
    levels: int
    sampled_levels: int
    """Levels that are sampled."""
    vocabulary: int
    frame_rate_hz: float
    window_frames: int
    offsets: tuple[int, ...]
    stride: int
    """Of the codebook pattern, as in `melisma.lm.patterns`."""
    causal: bool = True
    gated: bool = True
    """SwiGLU; else GELU."""
    centred: bool = False
    """LayerNorm, which has a bias; else RMSNorm."""
    text: bool = False
    """Whether every layer has cross-attention to a text."""
    chroma_positions: int = 0
    """Positions of chroma before the piece."""
    text_before: bool = False
    """Whether the tokens of the text precede the piece, instead of cross-attention."""
    longest_seconds: float = math.inf
    """Duration that is generated in one go: a longer piece continues in windows, each with the end
    of the previous one as its prefix."""
    stride_seconds: float = math.inf
    """Distance from one window to the next."""

    @classmethod
    def of(cls, settings: Mapping[str, Any], frame_rate_hz: float) -> StageShape:
        """Reads the sizes from a token model's settings.

        Args:
            settings: Fields of `melisma.lm.TokenModelSettings` as in JSON, with the same defaults.
            frame_rate_hz: Frames per second of its tokens.

        Raises:
            MelismaError: They are not settings of a token model.
        """
        try:
            given = some_fields(settings, _StageSettings)
            conditions = some_fields(given.conditions, _ConditionSettings, "conditions")
            expect_sizes({**asdict(given), "conditions": asdict(conditions)})
            if not 0 < given.expansion <= _MAX_EXPANSION or not given.width:
                raise MelismaError(f"{given.width} times {given.expansion} is no width of a layer")
        except MelismaError as error:
            raise MelismaError(f"these are no settings of a token model: {error}") from error
        offsets, stride = _pattern(given.pattern, given.levels)
        return cls(
            width=given.width,
            layers=given.layers,
            heads=given.heads,
            hidden_width=round(given.width * given.expansion / 32) * 32,
            levels=given.levels,
            sampled_levels=given.levels - given.first_sampled_level,
            vocabulary=given.vocabulary,
            frame_rate_hz=frame_rate_hz,
            window_frames=given.window_frames,
            offsets=offsets,
            stride=stride,
            causal=given.causal,
            gated=given.feed_forward == "swiglu",
            centred=given.norm == "layer",
            text=bool(conditions.text_width) and not conditions.text_before,
            chroma_positions=conditions.chroma_frames,
            text_before=conditions.text_before,
        )

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of a layer's matrices, under the names of `native.trunk`."""
        width, wide = self.width, self.hidden_width
        matrices = {
            "qkv_proj": (3 * width, width),
            "out_proj": (width, width),
            "up_proj": (wide * (2 if self.gated else 1), width),
            "down_proj": (width, wide),
        }
        if self.text:
            cross = {"cross_q_proj": width, "cross_kv_proj": 2 * width, "cross_out_proj": width}
            matrices |= {name: (outputs, width) for name, outputs in cross.items()}
        return matrices

    def layer_bytes(self, precision: str) -> int:
        """Bytes of one layer's matrices that every step reads. Keys and values of a text are
        computed once, so their matrix is not among them."""
        read = {name: size for name, size in self.matrices.items() if name != "cross_kv_proj"}
        return sum(matrix_bytes(*size, precision) for size in read.values())

    def bytes_per_step(self, precision: str) -> int:
        """Bytes of weights that every step reads, as counted by `NativeEngine`."""
        heads = matrix_bytes(self.sampled_levels * self.vocabulary, self.width, precision)
        return self.layers * self.layer_bytes(precision) + heads

    def weight_bytes(self, precision: str) -> int:
        """Bytes of all weights in the engine: packed matrices, norms and embedding tables."""
        text = matrix_bytes(*self.matrices["cross_kv_proj"], precision) if self.text else 0
        biased = 2 if self.centred else 1
        norms = ((3 if self.text else 2) * self.layers + 1) * self.width * biased
        tables = self.levels * (self.vocabulary + 1) * self.width
        return self.bytes_per_step(precision) + self.layers * text + 4 * (norms + tables)

    def frames(self, seconds: float) -> int:
        """Frames of a piece of some duration."""
        return max(1, math.ceil(seconds * self.frame_rate_hz))

    def steps(self, seconds: float) -> int:
        """Steps of a piece, or of its first window if it is longer than one."""
        frames = self.frames(min(seconds, self.longest_seconds))
        return (frames - 1) * self.stride + self.offsets[-1] + 1

    def all_steps(self, seconds: float) -> int:
        """Steps of a whole piece over all windows, without those of the windows' prefixes, which
        are prefilled many frames at a time."""
        more = max(0.0, seconds - self.longest_seconds)
        windows = math.ceil(more / self.stride_seconds)
        ends = windows * self.offsets[-1]
        return self.steps(seconds) + (self.frames(more) * self.stride + ends if more else 0)

    def prefix_positions(self, workload: Workload) -> int:
        """Positions before the piece."""
        return self.chroma_positions + (workload.text_tokens if self.text_before else 0)

    def window(self, workload: Workload) -> int:
        """Most positions that attention looks back over."""
        prefix = self.prefix_positions(workload)
        window = self.window_frames * self.stride + prefix
        return min(window, prefix + self.steps(workload.seconds))

    def cache_positions(self, workload: Workload) -> int:
        """Capacity of the KV cache: positions per sequence."""
        positions = self.prefix_positions(workload) + self.steps(workload.seconds)
        return min(self.window(workload) + PREFILL_ROWS, positions)

    def middle(self, workload: Workload) -> int:
        """Position of the step in the middle of a piece."""
        return self.prefix_positions(workload) + self.steps(workload.seconds) // 2

    def cache_bytes(self, precision: str, workload: Workload, positions: int | None = None) -> int:
        """Bytes of the KV cache, that of the text included.

        Keys and values have the precision of the weights, but at least 8 bits, those of a text 16.

        Args:
            precision: Of the weights.
            workload: The batch.
            positions: Positions to count; the whole capacity by default.
        """
        if positions is None:
            positions = padded(self.cache_positions(workload))
        size = {"float32": 4, "bfloat16": 2}.get(precision, 1)
        width = self.heads * padded(self.width // self.heads)
        # int8 vectors have a scale for each head.
        per_position = width * size + (4 * self.heads if size == 1 else 0)
        text = padded(workload.text_tokens) * width * max(size, 2) if self.text else 0
        return 2 * self.layers * workload.rows * (positions * per_position + text)

    def sampling_bytes(self, workload: Workload) -> int:
        """Bytes of logits, noise (as it is sampled and as it is used) and tables of positions."""
        noise = 2 * workload.pieces * NOISE_STEPS * self.sampled_levels * self.vocabulary
        logits = workload.rows * self.sampled_levels * self.vocabulary
        positions = (self.prefix_positions(workload) + self.steps(workload.seconds)) * self.width
        return 4 * (noise + logits + positions)

    @property
    def operations(self) -> int:
        """Operations of a step; the threads synchronize after each of them."""
        return self.layers * (15 if self.text else 10) + 5


def _pattern(name: str, levels: int) -> tuple[tuple[int, ...], int]:
    """Offsets and stride of a codebook pattern, as in `melisma.lm.patterns`, which loads torch."""
    one = range(levels)
    known = {
        "parallel": ((0,) * levels, 1),
        "delayed": (tuple(one), 1),
        "flattened": (tuple(one), levels),
        "delayed_pairs": (tuple(level // 2 for level in one), 1),
    }
    if name not in known or levels < 1:
        raise MelismaError(f'no pattern "{name}" of {levels} levels: known are {", ".join(known)}')
    return known[name]


@cache
def _tile_bytes(inputs: int, precision: str) -> int:
    return pack(np.zeros((TILE, inputs), np.float32), precision).bytes


def matrix_bytes(outputs: int, inputs: int, precision: str) -> int:
    """Bytes of a packed matrix.

    Raises:
        MelismaError: Unknown precision, or a number of inputs that it cannot group.
    """
    return -(-outputs // TILE) * _tile_bytes(inputs, precision)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Memory that a model needs during generation."""

    parts: Mapping[str, int]
    """Purpose -> bytes."""

    @property
    def bytes(self) -> int:
        """Total bytes."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Sizes of a model that determine its memory and speed."""

    stages: tuple[StageShape, ...]
    """Token models in the order in which they generate."""
    text_parameters: int = 0
    """Of a separate text encoder."""
    codec_parameters: int = 0
    half_precision: bool = False
    """Whether text encoder and codec decoder are bfloat16 where the precision of the token models
    is below float32 (published models, on processors that multiply bfloat16)."""
    other_parameters: int = 0
    """Of all other networks (in our own models everything that is not packed)."""
    rate_hz: int = 24_000
    channels: int = 1


def estimate_memory(sizes: ModelSizes, precision: str, workload: Workload) -> MemoryEstimate:
    """Estimates the memory that a model needs.

    Networks other than causal token models are float32 (with `ModelSizes.half_precision` the text
    encoder and half of the codec are bfloat16). Of stages that follow one another, the largest KV
    cache counts, because that of the previous stage is freed.

    Args:
        sizes: Sizes of the model.
        precision: One of `PRECISIONS`.
        workload: The batch.

    Raises:
        MelismaError: Unknown precision.
    """
    if precision not in PRECISIONS:
        raise MelismaError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')
    half = sizes.half_precision and precision != "float32"
    causal = [stage for stage in sizes.stages if stage.causal]
    caches = [
        stage.cache_bytes(precision, workload) + stage.sampling_bytes(workload) for stage in causal
    ]
    samples = int(workload.seconds * sizes.rate_hz) * sizes.channels
    # Longer pieces lie in temporary files, and are mastered in blocks.
    sound = workload.pieces * min(4 * samples, MEMORY_BYTES)
    mastering = SOUND_COPIES * 4 * min(samples, WHOLE_SAMPLES)
    parts = {
        "token models": sum(stage.weight_bytes(precision) for stage in causal),
        "keys and values": max(caches, default=0),
        "text encoder": (2 if half else 4) * sizes.text_parameters,
        "codec": (3 if half else 4) * sizes.codec_parameters,
        "other models": 4 * sizes.other_parameters,
        "sound": sound + mastering,
        "program": PROGRAM_BYTES + WORK_BYTES,
    }
    return MemoryEstimate(parts={name: size for name, size in parts.items() if size})


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Speed of a machine, measured by `micro_benchmark.measure_rates`."""

    threads: int
    read_bandwidth: float
    """Bytes per second that are read from memory."""
    matmul_bandwidth: Mapping[str, float]
    """Bytes of weights per second in matrix products, by precision."""
    operation_seconds: float
    """Fixed cost of every operation."""


def step_seconds(stage: StageShape, precision: str, workload: Workload, rates: Rates) -> float:
    """Estimates the duration of one decoding step in the middle of a piece.

    It is the time for reading weights (at the bandwidth of their products) and KV cache (at that of
    float32), and the fixed cost of every operation.

    Args:
        stage: The token model.
        precision: Of its weights.
        workload: The batch.
        rates: Speed of the machine.

    Returns:
        Seconds.
    """
    attended = min(stage.middle(workload), stage.window(workload))
    cache = stage.cache_bytes(precision, workload, attended) / rates.matmul_bandwidth["float32"]
    weights = stage.bytes_per_step(precision) / rates.matmul_bandwidth[precision]
    return weights + cache + stage.operations * rates.operation_seconds


def sampling_seconds(sizes: ModelSizes, precision: str, workload: Workload, rates: Rates) -> float:
    """Estimates the seconds in which all causal stages generate a batch, without the codec."""
    return sum(
        stage.all_steps(workload.seconds) * step_seconds(stage, precision, workload, rates)
        for stage in sizes.stages
        if stage.causal
    )


def recommended_precision(
    needs: Mapping[str, int], times_real_time: Mapping[str, float], available_bytes: int | None
) -> str | None:
    """Recommends a precision.

    Args:
        needs: Bytes of each precision.
        times_real_time: Speed of each precision as a multiple of real time; empty where unknown.
        available_bytes: Available memory, None where unknown.

    Returns:
        Of the precisions that fit, the most exact that is at least as fast as real time; the
        fastest where none is; the most exact where no speed is known. None where none fits.
    """
    fitting = [name for name in PRECISIONS if fits(needs[name], available_bytes)]
    if not times_real_time:
        return fitting[0] if fitting else None
    in_time = [name for name in fitting if times_real_time[name] >= 1.0]
    fastest = max(fitting, key=lambda name: times_real_time[name], default=None)
    return in_time[0] if in_time else fastest


def fits(needed_bytes: int, available_bytes: int | None) -> bool:
    """Whether a model fits into `RESERVE` of the available memory; true where that is unknown."""
    return available_bytes is None or needed_bytes <= RESERVE * available_bytes


def require_memory(
    needed_bytes: int, available_bytes: int | None, what: str = "this model"
) -> None:
    """Raises where a model does not fit into memory; to be called before it is loaded.

    Args:
        needed_bytes: `estimate_memory(...).bytes`.
        available_bytes: `hardware.memory().available_bytes`; nothing is raised for None.
        what: Name of the model, for the message.

    Raises:
        MelismaError: It does not fit.
    """
    if fits(needed_bytes, available_bytes):
        return
    assert available_bytes is not None
    raise MelismaError(
        f"{what} needs {gigabytes(needed_bytes)} of memory and {gigabytes(available_bytes)} are "
        "available: choose a smaller precision, a shorter duration, fewer candidates or a smaller "
        "model, or end other programs (`melisma doctor` shows what would fit)"
    )


def gigabytes(count: float) -> str:
    """Formats bytes as GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{count / 1e6:.0f} MB"
