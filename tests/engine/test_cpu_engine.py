"""Engines: the two agree, batches may be ragged, and what is known may stand before the piece."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_stage import VOCABULARY, conditions, generators, stage

from melisma.engine.cpu import NativeEngine
from melisma.engine.cuda_graph import CUDAGraphEngine
from melisma.engine.generate import sample, sample_stream
from melisma.engine.sampling import StageSampling
from melisma.lm import ConditioningSettings, TokenModel
from melisma.lm.conditioning import Condition, Conditioning, text_condition
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS

FRAMES = 10
GREEDY = StageSampling(temperature=0, guidance=2.0)
TEXT = ConditioningSettings(slots=False, text_width=8)
BEFORE = ConditioningSettings(slots=False, text_width=8, text_before=True, chroma_frames=5)


def musicgen(settings: ConditioningSettings, **changes: object) -> TokenModel:
    """MusicGen's kind of blocks, small."""
    return stage(
        window=40, conditions=settings, norm="layer", feed_forward="gelu", positions="sinusoidal",
        expansion=4.0, **changes,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def texts(batch: int = 2) -> Conditioning:
    """Texts of different lengths, and a tune for the first piece."""
    generator = torch.Generator().manual_seed(1)
    chroma = torch.nn.functional.one_hot(torch.arange(3 * batch).view(batch, 3), 12).float()
    states = torch.randn(batch, 4, 8, generator=generator)
    return Conditioning(
        batch=batch,
        length=FRAMES,
        text=text_condition(states, torch.arange(4, 4 - batch, -1)),
        chroma=Condition(values=chroma, present=torch.arange(batch) < 1),
    )


def of_one(asked: Conditioning, row: int) -> Conditioning:
    """One piece of a batch."""
    return asked.rows([row])


def told_all() -> Conditioning:
    """Something in every slot, and texts."""
    words = texts()
    return dataclasses.replace(conditions(FRAMES), text=words.text)


MODELS = {
    "ours": (lambda: stage(window=4), lambda: conditions(FRAMES)),
    "ours with text": (lambda: stage(conditions=ConditioningSettings(text_width=8)), told_all),
    "text": (lambda: musicgen(TEXT), texts),
    "before": (lambda: musicgen(BEFORE), lambda: of_one(texts(), 0)),
    "pairs": (lambda: musicgen(TEXT, pattern="delayed_pairs", levels=4), texts),
}


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("drawing", [GREEDY, StageSampling(top_k=6, top_p=0.8, guidance=1.5)])
def test_the_graph_draws_what_native_code_draws(kind: str, drawing: StageSampling) -> None:
    build, ask = MODELS[kind]
    model, asked = build(), ask()
    native = sample(NativeEngine(model), asked, FRAMES, drawing, generators(1, 2)[: len(asked)])
    graph = CUDAGraphEngine(build(), device="cpu", half=False)
    found = sample(graph, asked, FRAMES, drawing, generators(1, 2)[: len(asked)])
    assert torch.equal(found, native)


@pytest.mark.parametrize("kind", ["text", "before", "pairs"])
def test_the_likeliest_tokens_are_those_of_the_whole_model(kind: str) -> None:
    build, ask = MODELS[kind]
    model, asked = build(), of_one(ask(), 0)
    for guidance in (1.0, 3.0):
        drawing = StageSampling(temperature=0, guidance=guidance)
        grid = sample(NativeEngine(model), asked, FRAMES, drawing, [])
        with torch.no_grad():
            logits = model(grid, asked)
            # Without conditions there are as many places before the piece as the text has.
            logits = model(grid, asked.unconditional()) * (1 - guidance) + logits * guidance
        assert torch.equal(logits.argmax(dim=-1), grid)


def test_pieces_of_different_lengths_are_those_drawn_alone() -> None:
    model, asked = stage(window=4), conditions(60, batch=3)
    engine, drawing = NativeEngine(model), StageSampling(guidance=1.5)
    together = sample(engine, asked, [60, 7, 33], drawing, generators(1, 2, 3))
    for row, frames in enumerate((60, 7, 33)):
        one = of_one(asked, row).frames(0, frames)
        alone = sample(engine, one, frames, drawing, generators(row + 1))
        assert torch.equal(together[row, :, :frames], alone[0])
    assert torch.equal(together[1, :, 7:], together[1, :, 6:7].expand(-1, 53))


@pytest.mark.parametrize("kind", ["text", "before"])
def test_texts_of_different_lengths_are_those_read_alone(kind: str) -> None:
    engine, asked = NativeEngine(MODELS[kind][0]()), texts()
    together = sample(engine, asked, FRAMES, GREEDY, [])
    for row in range(2):
        one = of_one(asked, row)
        assert one.text is not None
        short = dataclasses.replace(one, text=one.text.mapped(lambda t, row=row: t[:, : 4 - row]))
        assert torch.equal(sample(engine, short, FRAMES, GREEDY, [])[0], together[row])


@pytest.mark.parametrize("kind", ["ours", "text", "before"])
def test_a_long_beginning_is_read_in_as_it_would_have_been_drawn(kind: str) -> None:
    build, _ = MODELS[kind]
    engine, frames = NativeEngine(build()), 90
    asked = conditions(frames, batch=1) if kind == "ours" else of_one(texts(), 0)
    whole = sample(engine, asked, frames, GREEDY, [])
    again = sample(engine, asked, frames, GREEDY, [], prefix=whole[..., :80])
    assert torch.equal(again, whole)
    graph = CUDAGraphEngine(build(), device="cpu", half=False)
    assert torch.equal(sample(graph, asked, frames, GREEDY, [], prefix=whole[..., :80]), whole)


def test_a_listener_hears_frames_as_soon_as_they_are_whole_and_may_leave() -> None:
    engine, asked = NativeEngine(stage()), conditions(90)
    whole = sample(engine, asked, 90, StageSampling(), generators(1, 2))
    heard, done = [], 0
    drawing = StageSampling()
    for grid in sample_stream(
        engine, asked, 90, drawing, generators(1, 2), first_steps=5, block_steps=20
    ):
        assert grid.done <= grid.step - 2 or grid.step == grid.steps
        heard.append(grid.tokens(done).clone())
        done = grid.done
    assert [part.shape[2] for part in heard][:3] == [3, 20, 20]
    assert torch.equal(torch.cat(heard, dim=2), whole)
    left = sample_stream(engine, asked, 90, StageSampling(), generators(1, 2), first_steps=5)
    assert torch.equal(next(left).tokens(), whole[..., :3])
    del left


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounded_weights_stay_near(precision: str) -> None:
    """Likeliest tokens given the same past: most are the same, all of them in whole precision."""
    model, asked = stage(width=64, heads=2, window=40), conditions(FRAMES)
    whole = sample(NativeEngine(model), asked, FRAMES, GREEDY, [])
    engine = NativeEngine(model, precision=precision)
    same = 0
    for known in range(FRAMES):
        given = whole[..., :known] if known else None
        found = sample(engine, asked, FRAMES, GREEDY, [], prefix=given)
        same += int((found[:, 0, known] == whole[:, 0, known]).sum())
    least = {"float32": 20, "bfloat16": 19, "int8": 18, "int4": 12}[precision]
    assert same >= least
    assert engine.bytes_per_step <= NativeEngine(model, precision="float32").bytes_per_step


def test_what_no_engine_draws_is_refused() -> None:
    model = stage("parallel", first_sampled_level=1, causal=False)
    for make in (NativeEngine, lambda m: CUDAGraphEngine(m, device="cpu")):
        with pytest.raises(MelismaError, match="not causal"):
            make(model)
    with pytest.raises(MelismaError, match='"float8"'):
        NativeEngine(stage(), precision="float8")


def test_tokens_stay_in_the_vocabulary_with_every_way_of_drawing() -> None:
    engine, asked = NativeEngine(stage()), conditions(FRAMES)
    for drawing in (
        StageSampling(top_k=1),
        StageSampling(top_p=1e-6),
        StageSampling(top_k=500),
        StageSampling(top_p=1.0),
    ):
        grid = sample(engine, asked, FRAMES, drawing, generators(1, 2))
        assert bool(((grid >= 0) & (grid < VOCABULARY)).all())
    likeliest = sample(engine, asked, FRAMES, StageSampling(temperature=0), [])
    for drawing in (StageSampling(top_k=1), StageSampling(top_p=1e-6)):
        assert torch.equal(sample(engine, asked, FRAMES, drawing, generators(1, 2)), likeliest)


def test_two_listeners_at_once_hear_what_each_would_alone() -> None:
    """More threads than cores, and programs that run side by side."""
    from concurrent.futures import ThreadPoolExecutor

    engine, asked = NativeEngine(stage(), threads=3), conditions(60)

    def drawn(seed: int) -> torch.Tensor:
        return sample(engine, asked, 60, StageSampling(), generators(seed, seed + 1))

    alone = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(drawn, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
