"""Native code: products in every precision, and whole trunks, give what torch gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from melisma.engine.native.attention import LANES
from melisma.engine.native.kv_cache import LayerCache
from melisma.engine.native.packing import ArenaAllocator, pack
from melisma.engine.native.program import Program
from melisma.engine.native.trunk import KVCache, PackedTrunk, add_trunk, cache_text_kv, to_float32
from melisma.nn.transformer import Text, Trunk, rotary_angles, sinusoidal_embedding
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS

ALLOWED = {"float32": 1e-5, "bfloat16": 4e-3, "int8": 1.1e-2, "int4": 0.13}
"""Error of a product over its root mean square: 2**-8 for bfloat16's weights; of integers, what
rounding of weights to 255 or 15 values, and of activations to 255, comes to."""


def product(
    weight: np.ndarray, x: np.ndarray, precision: str, threads: int, before: np.ndarray | None
) -> np.ndarray:
    program = Program(len(x), threads)
    out = program.scratch((len(x), len(weight)))
    if before is not None:
        out[...] = before
    packed = pack(weight, precision)
    program.multiply(packed, to_float32(torch.from_numpy(x)), out, add=before is not None)
    program.run(len(x))
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 128), (200, 96), (33, 320)])
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_products_are_those_of_numpy(precision: str, outputs: int, inputs: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    weight[1] *= 1e-4  # a row far below the others keeps its own scale
    x = rng.standard_normal((rows, inputs)).astype(np.float32)
    before = rng.standard_normal((rows, outputs)).astype(np.float32)
    exact = x @ weight.T
    for threads, old in ((1, None), (2, before)):
        found = product(weight, x, precision, threads, old) - (0 if old is None else old)
        error = np.abs(found - exact)[:, 2:] / np.sqrt((exact[:, 2:] ** 2).mean())
        assert np.sqrt((error**2).mean()) < ALLOWED[precision]
        small = np.abs(found - exact)[:, 1] / np.sqrt((exact[:, 1] ** 2).mean())
        assert old is not None or small.max() < 8 * ALLOWED[precision] + 1e-4


def attended(qkv: np.ndarray, heads: int, dtype: type) -> np.ndarray:
    """Attention of the last position of qkv [position, 3 * width], computed one by one with a cache
    of some type."""
    positions, width = len(qkv), qkv.shape[1] // 3
    program, arena = Program(1, 1), ArenaAllocator()
    dims = (1, heads, -(-positions // LANES) * LANES)
    cache = LayerCache(
        keys=arena.zeros((*dims, width // heads), dtype),
        values=arena.zeros((*dims, width // heads), dtype),
        key_scales=arena.zeros(dims, np.float32),
        value_scales=arena.zeros(dims, np.float32),
    )
    row, out = program.scratch((1, 3 * width)), program.scratch((1, width))
    program.attend(row, cache, positions, None, out)
    for position in range(positions):
        row[0], program.positions[0] = qkv[position], position
        program.run(1)
    return out.copy()


def test_an_int8_cache_is_exact_up_to_its_own_rounding() -> None:
    """With numbers that int8 represents exactly, attention is that of floats, even where one
    position outweighs hundreds that matter together."""
    rng = np.random.default_rng(0)
    width, heads, positions = 128, 2, 300
    qkv = np.round(rng.uniform(-127, 127, (positions, 3 * width))).astype(np.float32)
    qkv[:, width::64] = 127.0  # every key and value has a scale of 1/127
    qkv /= 127.0
    qkv[:, :width] = rng.standard_normal((positions, width)) / 3
    qkv[7, width : 2 * width] = np.where(qkv[-1, :width] > 0, 1.0, -1.0)
    exact, rounded = (attended(qkv, heads, dtype) for dtype in (np.float32, np.int8))
    assert np.abs(rounded - exact).max() < 2e-4 * np.abs(exact).max()


def test_hundreds_of_small_weights_keep_their_sum() -> None:
    """One position far ahead of 1,500 others, each of which is below one unit of 16 bits."""
    positions, size = 1_500, 16
    qkv = np.zeros((positions, 3 * size), np.float32)
    qkv[:, :size] = qkv[0, size : 2 * size] = 1.8
    qkv[:, 2 * size :] = 1.0
    qkv[0, 2 * size :] = -1.0
    each = np.exp(-size * 1.8**2 / size**0.5)
    assert each < 0.5 / 65_535
    others = (positions - 1) * each / (1 + (positions - 1) * each)
    assert attended(qkv, 1, np.int8)[0, 0] == pytest.approx(-1 + 2 * others, abs=2e-4)


def test_a_system_without_huge_pages_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmap.MADV_HUGEPAGE", 12_345, raising=False)
    found = ArenaAllocator().zeros((3, 5), np.float32)
    assert found.shape == (3, 5)
    assert not found.any()


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(MelismaError, match='"int2"'):
        pack(np.zeros((4, 8), np.float32), "int2")
    with pytest.raises(MelismaError, match="multiple of 8 inputs, not 12"):
        pack(np.zeros((4, 12), np.float32), "int8")


KINDS = {
    "heads of 64": {"width": 128, "heads": 2, "condition_width": 6, "text": True},
    "ours": {"condition_width": 6},
    "ours with text": {"condition_width": 6, "text": True},
    "MusicGen": {"norm": "layer", "feed_forward": "gelu", "positions": "sinusoidal", "text": True},
}


@pytest.mark.parametrize("window", [3, 20, 60])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_trunk_stepped_is_the_trunk_at_once(kind: str, window: int) -> None:
    """Over several blocks of the cache and around its ring buffer, with three threads, and with
    several positions in one step."""
    from melisma.nn.transformer import window_mask

    torch.manual_seed(0)
    shape: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, **KINDS[kind]}
    model, width = Trunk(**shape).eval(), shape["width"]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8 / width**0.5)
    frames, batch = 43, 2
    hidden, condition = torch.randn(batch, frames, width), torch.randn(batch, 1, 6)
    text = Text(states=torch.randn(batch, 5, width), lengths=torch.tensor([4, 0]))
    given = condition if model.shape.condition_width else None
    with torch.no_grad():
        mask = window_mask(frames, window, hidden.device)
        whole, _ = model(hidden, given, text=text if model.shape.text else None, mask=mask)
    packed = PackedTrunk.of(model.shape, model.state_dict().__getitem__, "float32")
    for at_once in (1, 3):
        found = stepped(model, packed, hidden, condition, text, window, at_once)
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("precision", "allowed"), [("bfloat16", 0.02), ("int8", 0.06), ("int4", 0.5)]
)
@pytest.mark.parametrize("heads", [2, 8])
def test_quantized_weights_and_caches_stay_near(precision: str, allowed: float, heads: int) -> None:
    """Heads of 64, which have kernels of their own, and of 16; around the ring buffer, too."""
    torch.manual_seed(0)
    model = Trunk(width=128, layers=2, heads=heads, condition_width=6, text=True).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8 / 128**0.5)
    hidden, condition = torch.randn(2, 41, 128), torch.randn(2, 1, 6)
    text = Text(states=torch.randn(2, 5, 128), lengths=torch.tensor([4, 0]))
    from melisma.nn.transformer import window_mask

    with torch.no_grad():
        mask = window_mask(41, 20, hidden.device)
        whole, _ = model(hidden, condition, text=text, mask=mask)
    packed = PackedTrunk.of(model.shape, model.state_dict().__getitem__, precision)
    found = stepped(model, packed, hidden, condition, text, 20, 2)
    assert float((found - whole).square().mean().sqrt() / whole.square().mean().sqrt()) < allowed


@torch.no_grad()
def stepped(
    model: Trunk,
    packed: PackedTrunk,
    hidden: torch.Tensor,
    condition: torch.Tensor,
    text: Text,
    window: int,
    at_once: int,
) -> torch.Tensor:
    """The trunk's output [batch, frame, width], `at_once` positions of every sequence per step."""
    batch, frames, width = hidden.shape
    cache = KVCache(packed, batch, min(window, frames) + at_once, text.states.shape[1])
    cache_text_kv(packed, cache, text.states, text.lengths, 2)
    program = Program(batch * at_once, 3, distinct=at_once == 1)
    x = program.scratch((batch * at_once, width))
    angles = modulations = None
    positions = torch.arange(frames)
    if model.shape.positions == "rotary":
        angles = to_float32(torch.cat(rotary_angles(positions, width // model.shape.heads), dim=-1))
    else:
        hidden = hidden + sinusoidal_embedding(positions, width)
    if model.shape.condition_width:
        parts = model.modulations(condition)
        modulations = [to_float32(torch.cat(part, dim=-1)[:, 0]) for part in parts if part]
    out = add_trunk(
        program, packed, cache, x, window=window, angles=angles, modulations=modulations
    )
    found = torch.zeros(batch, frames, width)
    for start in range(0, frames, at_once):
        rows = [(s, p) for p in range(start, min(start + at_once, frames)) for s in range(batch)]
        for row, (sequence, position) in enumerate(rows):
            program.sequence_index[row], program.positions[row] = sequence, position
            program.angle_index[row] = position
            x[row] = hidden[sequence, position].numpy()
        program.run(len(rows))
        for row, (sequence, position) in enumerate(rows):
            found[sequence, position] = torch.from_numpy(out[row].copy())
    return found
