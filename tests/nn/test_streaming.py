"""The streaming contract: however a stream is cut into blocks, what leaves is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melisma.codec import AcousticCodec, Codec, CodecSettings
from melisma.nn.convolution import CausalDepthwise, ConvNeXtBlock, ConvNeXtStack
from melisma.sound import phase_retrieval
from melisma.values.tokens import SAMPLES_PER_FRAME

UNITS = 9
"""Length of the streams that are cut, in each stream's own unit."""
BATCH = 2

TINY = CodecSettings(
    encoder_width=16, encoder_blocks=2, latent_width=16, latent_blocks=1, levels=3, vocabulary=16,
    code_width=8, decoder_slow_width=16, decoder_slow_blocks=1, decoder_width=16, decoder_blocks=2,
    decoder_expansion=2,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Anything that streams."""

    whole: Tensor
    """What enters, uncut."""
    initial_state: Callable[[int], Any]
    step: Callable[[Tensor, Any], tuple[Tensor, Any]]
    axis: int = 1
    """Axis of `whole` that is time."""
    unit: int = 1
    """Steps along the axis that belong together."""
    finish: Callable[[Any], Tensor] | None = None
    """What is said after the last block."""


def _codec() -> Codec:
    torch.manual_seed(0)
    codec = Codec(TINY)
    codec.quantizer.codes.normal_()
    return codec.eval()


def _layer(layer: CausalDepthwise | ConvNeXtBlock | ConvNeXtStack) -> Stream:
    whole = torch.randn(BATCH, UNITS, 8)
    return Stream(whole=whole, initial_state=layer.initial_state, step=layer.step)


def _encoder() -> Stream:
    encoder = _codec().encoder
    sound = 0.3 * torch.randn(BATCH, UNITS * SAMPLES_PER_FRAME)
    return Stream(
        whole=sound, initial_state=encoder.initial_state, step=encoder.step, unit=SAMPLES_PER_FRAME
    )


def _decoder() -> Stream:
    decoder = _codec().decoder
    return Stream(
        whole=torch.randn(BATCH, UNITS, TINY.code_width),
        initial_state=decoder.initial_state,
        step=decoder.step,
    )


def _phases() -> Stream:
    magnitudes = torch.rand(BATCH, UNITS, phase_retrieval.LINES) ** 4
    return Stream(
        whole=magnitudes, initial_state=phase_retrieval.initial_state, step=phase_retrieval.step
    )


def _acoustic() -> Stream:
    codec = AcousticCodec(_codec(), "tiny")
    tokens = torch.randint(TINY.vocabulary, (BATCH, TINY.levels, UNITS))
    return Stream(
        whole=tokens,
        initial_state=codec.initial_state,
        step=codec.step,
        axis=2,
        finish=lambda state: codec.finish(tokens[..., -1:], state),
    )


STREAMS: dict[str, Callable[[], Stream]] = {
    "depthwise": lambda: _layer(CausalDepthwise(width=8, kernel_frames=5)),
    "depthwise of one frame": lambda: _layer(CausalDepthwise(width=8, kernel_frames=1)),
    "ConvNeXt block": lambda: _layer(ConvNeXtBlock(width=8)),
    "ConvNeXt stack": lambda: _layer(ConvNeXtStack(width=8, blocks=3)),
    "codec encoder": _encoder,
    "codec decoder": _decoder,
    "phase synthesis": _phases,
    "acoustic codec": _acoustic,
}


def said(stream: Stream, cuts: list[int]) -> Tensor:
    """Everything that leaves when the stream is cut at these units."""
    state, out = stream.initial_state(BATCH), []
    for first, last in pairwise([0, *cuts, UNITS]):
        block = stream.whole.narrow(stream.axis, first * stream.unit, (last - first) * stream.unit)
        piece, state = stream.step(block, state)
        out.append(piece)
    if stream.finish is not None:
        out.append(stream.finish(state))
    return torch.cat(out, dim=1)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bfloat16: matrices of other heights may round their products in another order."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("name", list(STREAMS))
def test_any_cut_gives_the_same(name: str) -> None:
    torch.manual_seed(1)
    stream = STREAMS[name]()
    with torch.no_grad():
        whole = said(stream, [])

        @settings(max_examples=8, deadline=None, derandomize=True, database=None)
        @given(cuts=st.sets(st.integers(1, UNITS - 1)))
        def check(cuts: set[int]) -> None:
            torch.testing.assert_close(said(stream, sorted(cuts)), whole, atol=2e-4, rtol=1e-3)

        check()
        torch.testing.assert_close(said(stream, list(range(1, UNITS))), whole, atol=2e-4, rtol=1e-3)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("name", list(STREAMS))
def test_the_future_does_not_change_what_was_said(name: str) -> None:
    torch.manual_seed(1)
    stream = STREAMS[name]()
    half = UNITS // 2
    with torch.no_grad():
        block = stream.whole.narrow(stream.axis, 0, half * stream.unit)
        first, _ = stream.step(block, stream.initial_state(BATCH))
        whole, _ = stream.step(stream.whole, stream.initial_state(BATCH))
    torch.testing.assert_close(whole[:, : first.shape[1]], first, atol=2e-4, rtol=1e-3)


def test_the_state_of_the_caller_is_left_alone() -> None:
    stream = STREAMS["ConvNeXt stack"]()
    state = stream.initial_state(BATCH)
    with torch.no_grad():
        once, _ = stream.step(stream.whole, state)
        again, _ = stream.step(stream.whole, state)
    torch.testing.assert_close(once, again, atol=0, rtol=0)
