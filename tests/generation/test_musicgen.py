"""MusicGen's published layout: the same logits, tokens and sound as transformers has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_musicgen import VOCABULARY, written

from melisma.engine.generate import sample
from melisma.engine.sampling import StageSampling
from melisma.generation.loading import load, load_musicgen
from melisma.generation.musicgen import MusicGen
from melisma.generation.resolve import resolve_model
from melisma.lm.conditioning import Condition, Conditioning, text_condition
from melisma.values import Prompt
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams

KINDS = {"mono": {}, "stereo": {"stereo": True}, "melody": {"melody": True},
         "stereo melody": {"melody": True, "stereo": True}}  # fmt: skip
WORDS = "a slow piano waltz"
GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module", params=sorted(KINDS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(transformers' model, ours, whether it follows tunes) of one kind."""
    folder = tmp_path_factory.mktemp("musicgen")
    theirs = written(folder, **KINDS[request.param])
    return theirs, load_musicgen(resolve_model(folder), "float32", "cpu"), "melody" in request.param


def conditioning_of(ours: MusicGen, chroma: torch.Tensor | None = None) -> Conditioning:
    states = ours.words.encode([WORDS])
    return Conditioning(
        batch=1,
        length=1,
        text=text_condition(states.states, states.lengths),
        chroma=None if chroma is None else Condition.full(chroma),
    )


def a_chroma() -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.arange(7) % 12, 12).float()[None]


def inputs(ours: MusicGen) -> dict[str, torch.Tensor]:
    ids = torch.tensor(ours.words.tokens([WORDS])[0])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_logits_are_those_of_transformers(pair: Any) -> None:
    theirs, ours, melody = pair
    model = whole_model(ours, theirs)
    frames, levels = 9, model.settings.levels
    generator = torch.Generator().manual_seed(3)
    grid = torch.randint(VOCABULARY, (1, levels, frames), generator=generator)
    steps = model.pattern.apply(grid, model.blank)
    start = torch.full((1, levels, 1), model.blank)
    ids = torch.cat([start, steps[:, :, :-1]], dim=2)
    extra = {"input_features": a_chroma()} if melody else {}
    with torch.no_grad():
        found = theirs(**inputs(ours), decoder_input_ids=ids[0], **extra).logits
        found = found.view(levels, -1, VOCABULARY)[:, -steps.shape[2] :]
        mine = model(grid, conditioning_of(ours, a_chroma() if melody else None))[0]
    for level, offset in enumerate(model.pattern.offsets):
        there = found[level, offset : offset + frames]
        assert float((there - mine[level]).abs().max()) < 1e-4


def whole_model(ours: MusicGen, theirs: Any) -> Any:
    """Our module with all of its weights, which the engine does not keep."""
    from melisma.lm.model import TokenModel
    from melisma.lm.musicgen_weights import reader_of

    model = TokenModel(ours.engine.model.settings).eval()
    read = reader_of(theirs.state_dict().__getitem__)
    model.load_state_dict({name: read(name) for name in model.state_dict()})
    return model


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_likeliest_tokens_and_the_sound_are_those_of_transformers(
    pair: Any, guidance: float
) -> None:
    theirs, ours, melody = pair
    frames, levels = 14, ours.engine.model.settings.levels
    extra = {"input_features": a_chroma()} if melody else {}
    found: list[torch.Tensor] = []
    sides = levels // 2 if ours.codec.channels == 2 else levels
    decode = theirs.audio_encoder.decode

    def listen(codes: torch.Tensor, *rest: Any, **named: Any) -> Any:
        found.append(codes)
        return decode(codes, *rest, **named)

    theirs.audio_encoder.decode = listen
    try:
        sound = theirs.generate(
            **inputs(ours), **extra, do_sample=False, guidance_scale=guidance,
            max_new_tokens=frames + sides - 1,
        )  # fmt: skip
    finally:
        theirs.audio_encoder.decode = decode
    codes = torch.cat([part[0] for part in found])
    grid = sample(
        ours.engine,
        conditioning_of(ours, a_chroma() if melody else None),
        frames,
        StageSampling(temperature=0.0, guidance=guidance),
        [],
    )
    mine = torch.stack([grid[0, ::2], grid[0, 1::2]]) if ours.codec.channels == 2 else grid
    assert torch.equal(mine, codes)
    decoded = ours.codec.decode_tokens(grid)
    assert float((decoded - sound).abs().max()) < 1e-5 * max(1.0, float(sound.abs().max()))


def test_pieces_come_whole_or_as_a_stream_and_long_ones_in_windows(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours, _ = pair
    monkeypatch.setattr("melisma.generation.musicgen.WINDOW_SECONDS", 0.8)
    monkeypatch.setattr("melisma.generation.musicgen.STRIDE_SECONDS", 0.5)
    prompt = Prompt(words=WORDS, duration_seconds=2.03)
    (piece,) = ours.generate_pieces(prompt, seed=3)
    assert piece.waveform.samples.shape == (ours.codec.channels, round(2.03 * 32_000))
    assert piece.acoustic.tokens.shape == (ours.codec.levels, 102)
    blocks = list(ours.stream(prompt, seed=3))
    assert len(blocks) > 3
    whole = np.concatenate([block.samples for block in blocks], axis=1)
    np.testing.assert_allclose(whole, piece.waveform.samples, atol=1e-5)
    again = ours.generate_pieces([Prompt(words="loud drums"), prompt], seed=2)[1]
    assert np.array_equal(again.acoustic.tokens, piece.acoustic.tokens)


def test_exact_settings_are_put_into_the_words(pair: Any) -> None:
    _, ours, _ = pair
    prompts = [
        Prompt(words="slow piano", duration_seconds=1.0),
        Prompt(words="slow piano", duration_seconds=1.0, tempo_bpm=140, tonality="F# minor"),
        Prompt(words="slow piano, 140 bpm, F# minor", duration_seconds=1.0),
    ]
    plain, exact, said = (
        ours.generate_pieces(prompt, seed=3)[0].acoustic.tokens for prompt in prompts
    )
    assert np.array_equal(exact, said)
    assert not np.array_equal(exact, plain)


def test_a_name_and_a_licence_go_with_the_sound(tmp_path: Path) -> None:
    written(tmp_path / "musicgen-tiny")
    ours = load(str(tmp_path / "musicgen-tiny"))
    assert (ours.name, ours.licence, ours.rate_hz) == ("musicgen-tiny", "CC BY-NC 4.0", 32_000)
    other = load(str(tmp_path / "musicgen-tiny"), precision="bfloat16")
    assert ours.fingerprint != other.fingerprint
    with pytest.raises(MelismaError, match="--temperature-coarse"):
        ours.resolve_sampling(SamplingParams(coarse=SamplingParams(temperature=1.0)))
