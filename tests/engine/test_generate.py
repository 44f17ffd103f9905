"""Drawing tokens: repeatable, each piece by itself, guided, continued, level after level."""

from __future__ import annotations

import pytest
import torch
from small_stage import PATTERNS_OF_THREE, SOURCE, VOCABULARY, conditions, generators, stage

from melisma.engine.cpu import NativeEngine
from melisma.engine.generate import sample, sample_parallel
from melisma.engine.limits import NOISE_STEPS
from melisma.engine.sampling import StageSampling, sample_next_token
from melisma.lm import Conditioning, TokenModel
from melisma.values.errors import MelismaError

FRAMES = 10
GREEDY = StageSampling(temperature=0)


@pytest.mark.parametrize("pattern", PATTERNS_OF_THREE)
def test_the_likeliest_tokens_are_those_of_the_whole_model(pattern: str) -> None:
    model, asked = stage(pattern, window=4), conditions(FRAMES)
    grid = sample(NativeEngine(model), asked, FRAMES, GREEDY, generators(0, 1))
    assert grid.shape == (2, 3, FRAMES)
    with torch.no_grad():
        assert torch.equal(model(grid, asked).argmax(dim=-1), grid)


def test_the_same_seeds_draw_the_same_and_others_something_else() -> None:
    model, asked = stage(), conditions(FRAMES)
    first = sample(NativeEngine(model), asked, FRAMES, StageSampling(), generators(1, 2))
    assert torch.equal(
        sample(NativeEngine(model), asked, FRAMES, StageSampling(), generators(1, 2)), first
    )
    second = sample(NativeEngine(model), asked, FRAMES, StageSampling(), generators(1, 3))
    assert torch.equal(second[0], first[0])
    assert not torch.equal(second[1], first[1])
    assert bool(((first >= 0) & (first < VOCABULARY)).all())


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_piece_does_not_depend_on_its_neighbours(guidance: float) -> None:
    model, one, other = stage(), conditions(FRAMES), conditions(FRAMES, seed=1)
    neighbours = one.rows([0]).joined(other.rows([1]))
    drawing = StageSampling(guidance=guidance, top_k=5)
    first = sample(NativeEngine(model), one, FRAMES, drawing, generators(1, 2))
    second = sample(NativeEngine(model), neighbours, FRAMES, drawing, generators(1, 7))
    assert torch.equal(second[0], first[0])
    assert not torch.equal(second[1], first[1])


def test_a_longer_piece_begins_as_the_shorter_one_also_beyond_one_chunk_of_noise() -> None:
    model = stage("parallel", layers=1)
    frames = NOISE_STEPS + 12
    asked = Conditioning.absent(1, frames)
    longer = sample(NativeEngine(model), asked, frames, StageSampling(), generators(4))
    shorter = sample(NativeEngine(model), asked.frames(0, 20), 20, StageSampling(), generators(4))
    assert torch.equal(longer[..., :20], shorter)
    last = longer[..., NOISE_STEPS:]
    assert len(last.unique()) > 1
    assert not torch.equal(longer[..., :12], last)


def test_guidance_of_one_is_none_and_of_zero_forgets_the_words() -> None:
    model, asked = stage(), conditions(FRAMES)
    plain = sample(NativeEngine(model), asked, FRAMES, StageSampling(), generators(1, 2))
    nearly = sample(
        NativeEngine(model), asked, FRAMES, StageSampling(guidance=1 + 1e-7), generators(1, 2)
    )
    assert torch.equal(nearly, plain)
    forgot = sample(NativeEngine(model), asked, FRAMES, StageSampling(guidance=0), generators(1, 2))
    wordless = sample(
        NativeEngine(model), asked.unconditional(), FRAMES, StageSampling(), generators(1, 2)
    )
    assert torch.equal(forgot, wordless)
    strong = sample(NativeEngine(model), asked, FRAMES, StageSampling(guidance=6), generators(1, 2))
    assert not torch.equal(strong, plain)


@pytest.mark.parametrize("pattern", PATTERNS_OF_THREE)
def test_a_continuation_keeps_its_beginning(pattern: str) -> None:
    model, asked = stage(pattern, window=4), conditions(FRAMES)
    generator = torch.Generator().manual_seed(3)
    prefix = torch.randint(VOCABULARY, (2, 3, 4), generator=generator)
    grid = sample(NativeEngine(model), asked, FRAMES, GREEDY, generators(0, 1), prefix=prefix)
    assert torch.equal(grid[..., :4], prefix)
    with torch.no_grad():
        likeliest = model(grid, asked).argmax(dim=-1)
    assert torch.equal(likeliest[..., 4:], grid[..., 4:])
    whole = sample(NativeEngine(model), asked, 4, GREEDY, generators(0, 1), prefix=prefix)
    assert torch.equal(whole, prefix)


def test_what_cannot_be_continued_is_refused() -> None:
    model, asked = stage(), conditions(FRAMES)
    prefix = torch.zeros(2, 3, 12, dtype=torch.long)
    with pytest.raises(MelismaError, match="12 frames"):
        sample(NativeEngine(model), asked, FRAMES, GREEDY, generators(0, 1), prefix=prefix)
    prefix = torch.zeros(2, 2, 4, dtype=torch.long)
    with pytest.raises(MelismaError, match="3 levels, the grid 2"):
        sample(NativeEngine(model), asked, FRAMES, GREEDY, generators(0, 1), prefix=prefix)


def test_progress_hears_every_block_of_steps() -> None:
    heard: list[int] = []
    model = stage("flattened")
    sample(NativeEngine(model), conditions(4), 4, GREEDY, generators(0, 1), progress=heard.append)
    assert heard == [12]
    heard.clear()
    sample(NativeEngine(model), conditions(40), 40, GREEDY, generators(0, 1), progress=heard.append)
    assert heard == [32, 64, 96, 120]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(6_000, 4)
    noise = torch.empty(6_000, 4).exponential_(generator=torch.Generator().manual_seed(0))

    def shares(drawing: StageSampling) -> torch.Tensor:
        return torch.bincount(sample_next_token(logits, noise, drawing), minlength=4) / 6_000

    torch.testing.assert_close(shares(StageSampling()), logits[0].softmax(0), atol=0.02, rtol=0)
    cold = shares(StageSampling(temperature=0.5))
    torch.testing.assert_close(cold, (2 * logits[0]).softmax(0), atol=0.02, rtol=0)
    two = logits[0].masked_fill(torch.tensor([False, False, True, True]), -torch.inf).softmax(0)
    torch.testing.assert_close(shares(StageSampling(top_k=2)), two, atol=0.02, rtol=0)
    assert shares(StageSampling(top_k=1)).tolist() == [1, 0, 0, 0]
    assert shares(StageSampling(temperature=0)).tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(shares(StageSampling(top_k=40)), shares(StageSampling()))


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"temperature": 11}, {"temperature": float("nan")}, {"top_k": 0},
     {"guidance": -1}, {"guidance": 21}, {"guidance": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(MelismaError, match="not"):
        StageSampling(**wrong)  # pyright: ignore[reportArgumentType]


def fine(window: int) -> TokenModel:
    return stage("parallel", window=window, first_sampled_level=1, causal=False, conditions=SOURCE)


@pytest.mark.parametrize("window", [3, 8, 40])
def test_levels_are_filled_in_windows_of_any_length(window: int) -> None:
    asked = conditions(21, source=True)
    given = torch.randint(VOCABULARY, (2, 1, 21), generator=torch.Generator().manual_seed(2))
    drawing = StageSampling(temperature=0.5)
    grid = sample_parallel(fine(window), given, asked, drawing, generators(0, 1))
    assert torch.equal(grid[:, :1], given)
    again = sample_parallel(fine(window), given, asked, drawing, generators(0, 1))
    assert torch.equal(again, grid)
    # Every frame was drawn: none keeps the zeros that stood there before.
    assert float((grid[:, 1:] == 0).float().mean()) < 0.4
    assert not bool((grid[:, 1:, -8:] == 0).all())


def test_one_window_is_level_after_level() -> None:
    model, asked = fine(40), conditions(FRAMES, source=True)
    given = torch.zeros(2, 1, FRAMES, dtype=torch.long)
    grid = sample_parallel(model, given, asked, GREEDY, generators(0, 1))
    with torch.no_grad():
        for level in (1, 2):
            assert torch.equal(model.fill(grid, level, asked).argmax(dim=-1), grid[:, level])


def test_a_fine_stage_needs_its_levels() -> None:
    with pytest.raises(MelismaError, match="given 1 levels, not 2"):
        sample_parallel(
            fine(8), torch.zeros(2, 2, 5, dtype=torch.long), conditions(5, source=True), GREEDY,
            generators(0, 1),
        )  # fmt: skip


def test_a_seed_means_the_same_after_a_given_beginning() -> None:
    model, asked = stage("parallel"), conditions(FRAMES)
    free = sample(NativeEngine(model), asked, FRAMES, StageSampling(), generators(1, 2))
    again = sample(
        NativeEngine(model), asked, FRAMES, StageSampling(), generators(1, 2), prefix=free[..., :4]
    )
    assert torch.equal(again, free)


def test_the_likeliest_tokens_need_no_generator() -> None:
    model, asked = stage(), conditions(FRAMES)
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    sample(NativeEngine(model), asked, FRAMES, GREEDY, [generator] * 2)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("pattern", PATTERNS_OF_THREE)
@pytest.mark.parametrize("known", [0, 3])
def test_conditioning_in_stretches_changes_no_token(
    pattern: str, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = 41
    model, asked = stage(pattern, window=4), conditions(frames)
    prefix = torch.zeros(2, 3, known, dtype=torch.long) if known else None
    sampling = StageSampling(guidance=2.0, top_k=5)

    def sampled() -> torch.Tensor:
        engine = NativeEngine(model)
        return sample(engine, asked, [frames, 30], sampling, generators(1, 2), prefix=prefix)

    whole = sampled()
    monkeypatch.setattr("melisma.engine.cpu.CONDITION_FRAMES", 7)
    assert torch.equal(sampled(), whole)
