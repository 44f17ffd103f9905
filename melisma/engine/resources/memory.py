"""What a model needs, said before it is loaded: memory in bytes, and seconds on this machine.

Enters: sizes of its token models (`StageShape`, from settings alone), what is asked for (`Asked`)
and how fast the machine is (`Rates`, measured by `micro_benchmark.py`). Leaves: `Need`,
`seconds_of`, and `expect_memory`, which says in one sentence that something will not fit. A matrix
is counted as `melisma.engine.native.packing` lays it out, keys and values as `stack.Past` keeps
them; the tests compare both with what the engine really takes. Nothing here loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from melisma.engine.native.kv_cache import filled
from melisma.engine.native.matmul import TILE
from melisma.engine.native.packing import PRECISIONS, pack

PROGRAM_BYTES = 400_000_000
"""Python, torch, numba and the rest of the program without any model (measured: 370 MB when
everything is imported)."""
WORK_BYTES = 300_000_000
"""What decoding, hearing and mastering take beside weights and sound, however long the piece is:
codecs decode in blocks (measured: 100 MB with EnCodec at 32 kHz and one candidate, 290 MB with our
own models, which hear four)."""
SOUND_COPIES = 8
"""Copies of the finished sound as float32 that are alive at once at the most: decoded, cut,
mastered, oversampled for its true peak (counted in the code)."""
RESERVE = 0.9
"""Share of what is available that may be planned for: others take some meanwhile (chosen)."""
_READ_ROWS = 64
"""Places that `engine.cpu` reads in side by side, which its ring of keys and values has besides."""
_NOISE_STEPS = 128
"""Steps for which `engine.sampling` draws noise at once."""
_CHROMA_CLASSES = 12


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is to be made at once."""

    seconds: float
    pieces: int = 1
    """Pieces and candidates side by side."""
    guidance: bool = True
    """With guidance every piece is drawn twice: told everything, and told nothing."""
    words: int = 32
    """Word pieces of the longest text (chosen: a long sentence)."""

    @property
    def branches(self) -> int:
        """Rows of a piece."""
        return 2 if self.guidance else 1

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return self.pieces * self.branches


@dataclass(frozen=True, kw_only=True)
class StageShape:
    """Sizes of a token model that decide its memory and its speed."""

    width: int
    layers: int
    heads: int
    hidden_width: int
    """Width inside the feed-forward parts."""
    levels: int
    sampled_levels: int
    """Levels that are drawn."""
    vocabulary: int
    frame_rate_hz: float
    window_frames: int
    offsets: tuple[int, ...]
    stride: int
    """Of the codebook pattern, as in `melisma.lm.patterns`."""
    causal: bool = True
    gated: bool = True
    """SwiGLU, else GELU."""
    centred: bool = False
    """LayerNorm, which has a bias; else RMSNorm."""
    text: bool = False
    """Whether every layer attends to a text."""
    before: int = 0
    """Places before the piece: chroma, and with `text_before` the words of `Asked`."""
    text_before: bool = False
    longest_seconds: float = math.inf
    """Of what is drawn at once: a longer piece goes on in windows, each with the end of the one
    before."""
    stride_seconds: float = math.inf
    """How far one window lies from the next."""

    @classmethod
    def of(cls, settings: Mapping[str, Any], frame_rate_hz: float) -> StageShape:
        """From the fields of `melisma.lm.TokenModelSettings` as JSON has them; what is left out is
        as there. `ValueError` where they are of no token model."""
        try:
            width, levels = int(settings["width"]), int(settings["levels"])
            conditions: Mapping[str, Any] = settings.get("conditions", {})
            offsets, stride = _pattern(str(settings.get("pattern", "delayed")), levels)
            before = bool(conditions.get("text_before", False))
            return cls(
                width=width,
                layers=int(settings["layers"]),
                heads=int(settings["heads"]),
                hidden_width=round(width * float(settings.get("expansion", 8 / 3)) / 32) * 32,
                levels=levels,
                sampled_levels=levels - int(settings.get("first_sampled_level", 0)),
                vocabulary=int(settings.get("vocabulary", 1024)),
                frame_rate_hz=frame_rate_hz,
                window_frames=int(settings.get("window_frames", 500)),
                offsets=offsets,
                stride=stride,
                causal=bool(settings.get("causal", True)),
                gated=settings.get("feed_forward", "swiglu") == "swiglu",
                centred=settings.get("norm", "rms") == "layer",
                text=bool(conditions.get("text_width", 0)) and not before,
                before=int(conditions.get("chroma_frames", 0)),
                text_before=before,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"these are no settings of a token model: {error} is wrong") from error

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of a layer's matrices, as `stack` names them."""
        width, wide = self.width, self.hidden_width
        found = {
            "qkv_proj": (3 * width, width),
            "out_proj": (width, width),
            "up_proj": (wide * (2 if self.gated else 1), width),
            "down_proj": (width, wide),
        }
        if self.text:
            cross = {"cross_q_proj": width, "cross_kv_proj": 2 * width, "cross_out_proj": width}
            found |= {name: (outputs, width) for name, outputs in cross.items()}
        return found

    def layer_bytes(self, precision: str) -> int:
        """Matrices of one layer that every step reads; keys and values of a text are read in once
        and their matrix is not read again."""
        read = {name: size for name, size in self.matrices.items() if name != "cross_kv_proj"}
        return sum(matrix_bytes(*size, precision) for size in read.values())

    def bytes_a_step(self, precision: str) -> int:
        """Bytes of weights that every step reads: `NativeEngine.bytes_a_step`."""
        heads = matrix_bytes(self.sampled_levels * self.vocabulary, self.width, precision)
        return self.layers * self.layer_bytes(precision) + heads

    def weight_bytes(self, precision: str) -> int:
        """Everything that the engine keeps: packed matrices, norms and tables of tokens."""
        tell = matrix_bytes(*self.matrices["cross_kv_proj"], precision) if self.text else 0
        biased = 2 if self.centred else 1
        norms = ((3 if self.text else 2) * self.layers + 1) * self.width * biased
        tables = self.levels * (self.vocabulary + 1) * self.width
        return self.bytes_a_step(precision) + self.layers * tell + 4 * (norms + tables)

    def frames(self, seconds: float) -> int:
        """Frames of a piece."""
        return max(1, math.ceil(seconds * self.frame_rate_hz))

    def steps(self, seconds: float) -> int:
        """Steps of what is drawn at once of a piece."""
        frames = self.frames(min(seconds, self.longest_seconds))
        return (frames - 1) * self.stride + self.offsets[-1] + 1

    def all_steps(self, seconds: float) -> int:
        """Steps of a whole piece, one after another; those of a window's known beginning, which is
        read in many frames at a time, are left out."""
        more = max(0.0, seconds - self.longest_seconds)
        windows = math.ceil(more / self.stride_seconds)
        ends = windows * self.offsets[-1]
        return self.steps(seconds) + (self.frames(more) * self.stride + ends if more else 0)

    def prefix_positions(self, asked: Workload) -> int:
        """Places that stand before the piece."""
        return self.before + (asked.words if self.text_before else 0)

    def window(self, asked: Workload) -> int:
        """Places that attention looks back over at the most."""
        told = self.prefix_positions(asked)
        window = self.window_frames * self.stride + told
        return min(window, told + self.steps(asked.seconds))

    def cache_positions(self, asked: Workload) -> int:
        """Places whose keys and values are kept."""
        places = self.prefix_positions(asked) + self.steps(asked.seconds)
        return min(self.window(asked) + _READ_ROWS, places)

    def middle(self, asked: Workload) -> int:
        """The place of the step in the middle of a piece."""
        return self.prefix_positions(asked) + self.steps(asked.seconds) // 2

    def cache_bytes(self, precision: str, asked: Workload, places: int | None = None) -> int:
        """Keys and values of so many places, of all that are kept by default; with those of the
        text: as exactly as the weights, but never in less than 8 bits, the text in 16."""
        kept = filled(self.cache_positions(asked)) if places is None else places
        size = {"float32": 4, "bfloat16": 2}.get(precision, 1)
        width = self.heads * filled(self.width // self.heads)
        # Eight bits have a scale for each head.
        place = width * size + (4 * self.heads if size == 1 else 0)
        text = filled(asked.words) * width * max(size, 2) if self.text else 0
        return 2 * self.layers * asked.rows * (kept * place + text)

    def sampling_bytes(self, asked: Workload) -> int:
        """Logits, noise (as it is drawn and as it is used) and tables of places."""
        noise = 2 * asked.pieces * _NOISE_STEPS * self.sampled_levels * self.vocabulary
        logits = asked.rows * self.sampled_levels * self.vocabulary
        places = (self.prefix_positions(asked) + self.steps(asked.seconds)) * self.width
        return 4 * (noise + logits + places)

    @property
    def operations(self) -> int:
        """Operations of a step, after each of which the threads wait for each other."""
        return self.layers * (15 if self.text else 10) + 5


def _pattern(name: str, levels: int) -> tuple[tuple[int, ...], int]:
    """Offsets and stride of a pattern of `melisma.lm.patterns`, which loads torch."""
    one = range(levels)
    known = {
        "parallel": ((0,) * levels, 1),
        "delayed": (tuple(one), 1),
        "flattened": (tuple(one), levels),
        "delayed_pairs": (tuple(level // 2 for level in one), 1),
    }
    if name not in known or levels < 1:
        raise ValueError(f'no pattern "{name}" of {levels} levels: known are {", ".join(known)}')
    return known[name]


@cache
def _tile_bytes(inputs: int, precision: str) -> int:
    return pack(np.zeros((TILE, inputs), np.float32), precision).bytes


def matrix_bytes(outputs: int, inputs: int, precision: str) -> int:
    """Bytes of a packed matrix. `ValueError` for another precision, or inputs that it cannot
    group."""
    return -(-outputs // TILE) * _tile_bytes(inputs, precision)


@dataclass(frozen=True, kw_only=True)
class Need:
    """Memory in bytes that a model takes while it makes music, part by part."""

    parts: Mapping[str, int]
    """What for -> bytes."""

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """What of a model decides memory and speed."""

    stages: tuple[StageShape, ...]
    """Token models in the order in which they draw."""
    text_parameters: int = 0
    """Of a text encoder of its own."""
    codec_parameters: int = 0
    halved: bool = False
    """Whether text encoder and the codec's decoder are bfloat16 where the drawn weights are not
    exact (published models, on processors that multiply it)."""
    other_parameters: int = 0
    """Of everything else that is loaded (in our own models all that is not packed)."""
    rate_hz: int = 24_000
    channels: int = 1


def need_of(sizes: ModelSizes, precision: str, asked: Workload) -> Need:
    """Memory of a model in one of `PRECISIONS`. What is not drawn step by step is float32 (or
    `ModelSizes.halved`: all of the text encoder, half of the codec); of stages that follow one
    another, the largest keys and values count, because those of the one before are given back."""
    if precision not in PRECISIONS:
        raise ValueError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')
    halved = sizes.halved and precision != "float32"
    drawn = [stage for stage in sizes.stages if stage.causal]
    past = [stage.cache_bytes(precision, asked) + stage.sampling_bytes(asked) for stage in drawn]
    sound = int(asked.seconds * sizes.rate_hz) * sizes.channels * asked.pieces * 4
    parts = {
        "token models": sum(stage.weight_bytes(precision) for stage in drawn),
        "keys and values": max(past, default=0),
        "text encoder": (2 if halved else 4) * sizes.text_parameters,
        "codec": (3 if halved else 4) * sizes.codec_parameters,
        "other models": 4 * sizes.other_parameters,
        "sound": SOUND_COPIES * sound,
        "program": PROGRAM_BYTES + WORK_BYTES,
    }
    return Need(parts={name: size for name, size in parts.items() if size})


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How fast a machine is, measured by `trial.measure_rates`."""

    threads: int
    read: float
    """Bytes a second that are read from memory."""
    products: Mapping[str, float]
    """Bytes a second of weights that are multiplied, by precision."""
    operation_seconds: float
    """What every operation costs besides."""


def step_seconds(stage: StageShape, precision: str, asked: Workload, rates: Rates) -> float:
    """Seconds of one step at the middle of a piece: weights by the rate of their products, keys
    and values by that of floats, and the waiting after every operation."""
    looked_at = min(stage.middle(asked), stage.window(asked))
    past = stage.cache_bytes(precision, asked, looked_at) / rates.products["float32"]
    weights = stage.bytes_a_step(precision) / rates.products[precision]
    return weights + past + stage.operations * rates.operation_seconds


def sampling_seconds(sizes: ModelSizes, precision: str, asked: Workload, rates: Rates) -> float:
    """Seconds in which all stages draw what is asked for; the codec's come besides."""
    return sum(
        stage.all_steps(asked.seconds) * step_seconds(stage, precision, asked, rates)
        for stage in sizes.stages
        if stage.causal
    )


def recommended(
    needs: Mapping[str, int], times_real_time: Mapping[str, float], available_bytes: int | None
) -> str | None:
    """The precision to take, by the bytes and the speed of each: of those that fit, the most exact
    that keeps up with its own sound; where none does, the fastest; where no speed is known, the
    most exact. None where none fits."""
    fitting = [name for name in PRECISIONS if fits(needs[name], available_bytes)]
    if not times_real_time:
        return fitting[0] if fitting else None
    in_time = [name for name in fitting if times_real_time[name] >= 1.0]
    fastest = max(fitting, key=lambda name: times_real_time[name], default=None)
    return in_time[0] if in_time else fastest


def fits(needed_bytes: int, available_bytes: int | None) -> bool:
    """Whether there is room, a reserve left out; true where the system does not tell."""
    return available_bytes is None or needed_bytes <= RESERVE * available_bytes


def expect_memory(needed_bytes: int, available_bytes: int | None, what: str = "this model") -> None:
    """`ValueError` with one sentence where it will not fit; nothing where the system does not tell
    how much there is. Call before loading: `need_of(...).bytes`, `machine.memory()`."""
    if fits(needed_bytes, available_bytes):
        return
    assert available_bytes is not None
    raise ValueError(
        f"{what} needs {gigabytes(needed_bytes)} of memory and {gigabytes(available_bytes)} are "
        "available: choose a smaller precision, a shorter duration, fewer candidates or a smaller "
        "model, or end other programs (`melisma doctor` shows what would fit)"
    )


def gigabytes(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{count / 1e6:.0f} MB"
