"""Generation of audio with a small model of random weights: what holds for any weights."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import CODEC, STAGES, VOCABULARY, write_model

from melisma.analysis.receipt import receipt_of_sound
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.prompt import condition_on_prompt, conditions_of, rhythm_of
from melisma.generation.conditioning.recording import recording_of
from melisma.generation.loading import load, load_codec
from melisma.generation.musiclm import MusicLM
from melisma.generation.pipeline import AudioPiece
from melisma.lm import TokenModel
from melisma.lm.conditioning import ATTRIBUTE_SIZES, MELODY_SIZE
from melisma.tokenizers import AudioTokenizers
from melisma.values import Prompt, TokenGrid, Waveform
from melisma.values.attributes import CONDITION_ATTRIBUTES, FAMILIES, TONALITIES, tempo_bin
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams

WALTZ = Prompt(words="a slow waltz for piano in C# minor at 97 bpm", duration_seconds=2.0)
DRUMS = Prompt(words="fast drums", duration_seconds=2.0, tempo_bpm=150.0, metre="6/8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    write_model(made)
    return made


@pytest.fixture(scope="module")
def composer(folder: Path) -> MusicLM:
    made = load(str(folder))
    assert isinstance(made, MusicLM)
    return made


@pytest.fixture(scope="module")
def pieces(composer: MusicLM) -> list[AudioPiece]:
    return composer.generate_pieces([WALTZ, DRUMS], seed=7, best_of=2)


def played(piece: AudioPiece) -> TokenGrid:
    """The semantic tokens, which a model with a semantic stage always has."""
    assert piece.semantic is not None
    return piece.semantic


def test_two_prompts_become_two_pieces(composer: MusicLM, pieces: list[AudioPiece]) -> None:
    assert composer.name == "tiny0" or composer.name.startswith("tiny")
    for number, (piece, prompt) in enumerate(zip(pieces, (WALTZ, DRUMS), strict=True)):
        assert piece.waveform.samples.shape == (1, 48_000)
        assert piece.prompt == prompt
        assert piece.seed == 7 + number
        assert len(piece.candidates) == 2
        assert played(piece).tokens.shape == (2, 50)
        assert piece.acoustic.tokens.shape == (3, 50)
        assert played(piece).vocabulary == piece.acoustic.vocabulary == VOCABULARY
        assert len(np.unique(piece.acoustic.tokens[0])) > 3
        assert piece.similarity is not None
        assert -1.001 <= piece.similarity <= 1.001
    assert pieces[0].conditions["tempo"] == "97 bpm"
    assert pieces[0].conditions["tonality"] == "C# minor"
    assert pieces[1].conditions["metre"] == "6/8"
    assert not np.array_equal(played(pieces[0]).tokens, played(pieces[1]).tokens)


def test_the_same_seed_is_the_same_piece(folder: Path, pieces: list[AudioPiece]) -> None:
    again = load(str(folder)).generate_pieces([WALTZ, DRUMS], seed=7, best_of=2)
    for one, other in zip(pieces, again, strict=True):
        np.testing.assert_array_equal(one.acoustic.tokens, other.acoustic.tokens)
        np.testing.assert_array_equal(one.waveform.samples, other.waveform.samples)
        assert one.candidates == other.candidates


def test_a_piece_does_not_depend_on_its_neighbour(
    composer: MusicLM, pieces: list[AudioPiece]
) -> None:
    other = dataclasses.replace(DRUMS, words="an organ in a church")
    again = composer.generate_pieces([WALTZ, other], seed=7, best_of=2)
    np.testing.assert_array_equal(played(again[0]).tokens, played(pieces[0]).tokens)
    np.testing.assert_array_equal(again[0].acoustic.tokens, pieces[0].acoustic.tokens)
    assert not np.array_equal(again[1].acoustic.tokens, pieces[1].acoustic.tokens)


def test_the_best_candidate_is_selected(composer: MusicLM) -> None:
    shares: list[float] = []
    [piece] = composer.generate_pieces(
        Prompt(words="strings", duration_seconds=1.0), best_of=3, progress=shares.append
    )
    assert len(piece.candidates) == 3
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert 0.9 < shares[-1] <= 1
    assert piece.similarity is not None
    assert max(piece.candidates) >= piece.similarity


def test_words_alone_are_a_prompt_and_odd_lengths_are_kept(composer: MusicLM) -> None:
    settings = SamplingParams(
        guidance=1.0, coarse=SamplingParams(guidance=1.0), fine=SamplingParams(temperature=0.0)
    )
    prompt = Prompt(words="flute", duration_seconds=1.03)
    [piece] = composer.generate_pieces([prompt], best_of=1, sampling=settings)
    assert piece.waveform.samples.shape == (1, round(1.03 * 24_000))
    assert piece.acoustic.tokens.shape == (3, 26)


def test_invalid_requests_are_refused(composer: MusicLM) -> None:
    with pytest.raises(MelismaError, match="no prompt"):
        composer.generate_pieces([])
    with pytest.raises(MelismaError, match="best-of is a whole number from 1 to 64, not 0"):
        composer.generate_pieces(WALTZ, best_of=0)
    with pytest.raises(MelismaError, match="the prompt is empty"):
        composer.generate_pieces("  ")
    with pytest.raises(MelismaError, match="temperature lies between"):
        composer.generate_pieces(
            WALTZ, sampling=SamplingParams(semantic=SamplingParams(temperature=-1.0))
        )
    for duration in (0.0, -3.0, float("nan"), float("inf"), 601.0):
        with pytest.raises(MelismaError, match="duration lies between 1 and 600"):
            Prompt(words="a", duration_seconds=duration)


def test_words_become_conditions(composer: MusicLM) -> None:
    generator = torch.Generator().manual_seed(0)
    conditionings = [
        condition_on_prompt(composer.tokenizers.joint, prompt, generator)
        for prompt in (WALTZ, DRUMS)
    ]
    conditioning = conditions_of(conditionings, 50)
    columns = {name: column for column, name in enumerate(CONDITION_ATTRIBUTES)}
    assert conditioning.attributes is not None
    classes, present = conditioning.attributes.values, conditioning.attributes.present
    assert classes[0, columns["tonality"]] == TONALITIES.index("C# minor")
    assert classes[0, columns["tempo"]] == tempo_bin(97.0)
    assert classes[1, columns["tempo"]] == tempo_bin(150.0)
    assert bool(present[:, columns["tempo"]].all())
    assert conditioning.families is not None
    assert conditioning.families.values[0, FAMILIES.index("piano")] == 1
    sizes = torch.tensor([size for _, size in ATTRIBUTE_SIZES])
    assert bool((classes < sizes).all())
    assert conditioning.melody is None
    assert conditioning.style is not None
    lengths = conditioning.style.values.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(2), atol=1e-4, rtol=0)
    assert conditioning.rhythm is not None
    assert torch.equal(conditioning.rhythm.values[1], rhythm_of(150.0, "6/8", 50))


def test_an_unstated_tempo_is_sampled_by_the_seed(composer: MusicLM) -> None:
    def tempo(seed: int) -> float:
        words = Prompt(words="something", duration_seconds=2.0)
        return condition_on_prompt(
            composer.tokenizers.joint, words, torch.Generator().manual_seed(seed)
        ).tempo_bpm

    tempi = [tempo(seed) for seed in range(6)]
    assert tempi == [tempo(seed) for seed in range(6)]
    assert len(set(tempi)) > 1
    assert all(40 <= one <= 220 for one in tempi)


def test_phases_of_beats_and_bars_repeat() -> None:
    phases = rhythm_of(120.0, "3/4", 100)
    beats = int((phases[1:, 0] < phases[:-1, 0]).sum())
    bars = int((phases[1:, 1] < phases[:-1, 1]).sum())
    assert (beats, bars) == (7, 2)
    assert bool(((phases >= 0) & (phases < 1)).all())
    assert phases[0].tolist() == pytest.approx([0.04, 0.04 / 3], abs=1e-6)


def test_without_a_fine_stage_the_coarse_levels_sound(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "fine_lm.safetensors").unlink()
    composer = load(str(tmp_path / "model"))
    assert isinstance(composer, MusicLM)
    assert composer.fine is None
    [piece] = composer.generate_pieces(Prompt(words="a", duration_seconds=1.0), best_of=1)
    assert piece.acoustic.tokens.shape == (2, 25)


def test_the_fingerprint_covers_all_stages(composer: MusicLM, folder: Path) -> None:
    assert composer.fingerprint == load(str(folder)).fingerprint
    other = load(str(folder))
    assert isinstance(other, MusicLM)
    with torch.no_grad():
        next(other.coarse.parameters()).add_(1.0)
    assert other.fingerprint != composer.fingerprint


def changed(folder: Path, target: Path, name: str, **changes: object) -> Path:
    """A copy of the model in which one file's checkpoint is changed."""
    shutil.copytree(folder, target)
    path = target / f"{name}.safetensors"
    write_checkpoint(path, dataclasses.replace(read_checkpoint(path), **changes))  # pyright: ignore[reportArgumentType]
    return target


def test_files_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match='no model "none"'):
        load("none")
    wrong = changed(folder, tmp_path / "a", "coarse_lm", fingerprints={"codec": "0123"})
    with pytest.raises(MelismaError, match="was trained on tokens of the codec 0123"):
        load(str(wrong))
    wrong = changed(folder, tmp_path / "b", "semantic_lm", kind="codec")
    with pytest.raises(MelismaError, match='holds a "codec", but a "semantic_lm" is needed'):
        load(str(wrong))
    wrong = changed(folder, tmp_path / "c", "semantic_lm", settings={"levels": 2})
    with pytest.raises(MelismaError, match="does not fit the semantic_lm model"):
        load(str(wrong))
    wrong = changed(folder, tmp_path / "d", "joint", fingerprints={"semantic": "0123"})
    with pytest.raises(MelismaError, match="was trained on tokens of the semantic 0123"):
        load(str(wrong))
    (wrong / "codec.safetensors").unlink()
    with pytest.raises(MelismaError, match=r"there is no checkpoint at .*codec.safetensors"):
        load(str(wrong))


def test_stages_in_each_others_places_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    shutil.copy(folder / "semantic_lm.safetensors", tmp_path / "model" / "coarse_lm.safetensors")
    with pytest.raises(MelismaError, match='holds a "semantic_lm", but a "coarse_lm" is needed'):
        load(str(tmp_path / "model"))


def test_the_codec_alone_takes_any_rate(folder: Path) -> None:
    codec = load_codec(str(folder))
    rng = np.random.default_rng(0)
    stereo = Waveform(samples=0.1 * rng.standard_normal((2, 44_100)), rate_hz=44_100)
    grid = codec.encode(stereo, levels=2)
    assert grid.tokens.shape == (2, 25)
    assert codec.decode(grid).samples.shape == (1, 24_000)


def test_the_tokenizers_encode_a_row_of_tokens(composer: MusicLM) -> None:
    tokenizers = composer.tokenizers
    assert isinstance(tokenizers, AudioTokenizers)
    sound = 0.1 * torch.randn(2, 15 * 24_000, generator=torch.Generator().manual_seed(0))
    first, _ = tokenizers.encode(sound)
    assert first["acoustic"].shape == (CODEC.levels, 375)
    assert first["semantic"].shape == (STAGES["semantic_lm"].levels, 375)
    assert first["style"].shape == (2, 3)
    assert first["attributes"].shape == (2, len(CONDITION_ATTRIBUTES))
    assert first["families"].shape == (2, len(FAMILIES))
    assert first["melody"].max() < MELODY_SIZE
    vectors, rows = tokenizers.embed_windows(sound[:1])
    assert vectors.shape == (1, 2, 128)
    assert rows.shape[:2] == (1, 2)
    np.testing.assert_array_equal(tokenizers.joint.quantise(vectors[0]), first["style"])


def test_a_coarse_stage_without_semantic_tokens_works_alone(composer: MusicLM) -> None:
    with pytest.raises(MelismaError, match="a semantic stage is missing"):
        MusicLM(composer.tokenizers, None, composer.coarse, None, name="none", licence="none")
    settings = composer.coarse.settings
    alone = dataclasses.replace(
        settings, conditions=dataclasses.replace(settings.conditions, source_levels=0)
    )
    model = MusicLM(
        composer.tokenizers, None, TokenModel(alone), None, name="alone", licence="none"
    )
    [piece] = model.generate_pieces(WALTZ, seed=1, best_of=1)
    assert piece.semantic is None
    assert piece.acoustic.tokens.shape == (settings.levels, 50)


def test_receipts_may_rank_candidates(composer: MusicLM) -> None:
    by_words = composer.generate_pieces(WALTZ, seed=2, best_of=4)[0]
    by_receipt = composer.generate_pieces(WALTZ, seed=2, best_of=4, rank="receipt")[0]
    assert by_words.stated.tempo_bpm == 97.0
    assert by_words.stated.tonality == "C# minor"
    shares = [
        receipt_of_sound(piece.waveform, piece.stated, composer.detect_families(piece.waveform))
        for piece in (by_words, by_receipt)
    ]
    assert shares[1].agreement >= shares[0].agreement
    with pytest.raises(MelismaError, match='no ranking "luck"'):
        composer.generate_pieces(WALTZ, rank="luck")


def hum(seconds: float = 2.0, pitch_hz: float = 220.0) -> Waveform:
    """A voice-like tone with overtones, two notes long."""
    time = np.arange(round(seconds * 24_000)) / 24_000
    hz = np.where(time < seconds / 2, pitch_hz, pitch_hz * 1.5)
    phase = 2 * np.pi * np.cumsum(hz) / 24_000
    tone = sum(np.sin(phase * n) / n**1.5 for n in range(1, 8))
    return Waveform(samples=0.2 * np.asarray(tone, np.float32)[None], rate_hz=24_000)


def test_pieces_of_different_lengths_come_out_as_if_alone(composer: MusicLM) -> None:
    short = dataclasses.replace(DRUMS, duration_seconds=1.2)
    one, other = composer.generate_pieces([WALTZ, short], seed=7, best_of=1)
    assert (one.waveform.seconds, other.waveform.seconds) == (WALTZ.duration_seconds, 1.2)
    (alone,) = composer.generate_pieces(short, seed=8, best_of=1)
    assert np.array_equal(played(other).tokens, played(alone).tokens)
    assert np.array_equal(other.acoustic.tokens, alone.acoustic.tokens)


def test_a_piece_continues_the_given_beginning(composer: MusicLM) -> None:
    beginning = hum(1.0)
    given = AudioConditions(beginning=beginning)
    (piece,) = composer.generate_pieces(WALTZ, seed=1, best_of=1, context=given)
    assert piece.waveform.seconds == WALTZ.duration_seconds + 1.0
    kept = composer.tokenizers.codec.encode(beginning, composer.coarse.settings.levels)
    assert np.array_equal(piece.acoustic.tokens[: len(kept.tokens), :25], kept.tokens)
    assert piece.conditions["continues"] == "1.0 s"
    assert piece.conditions["tempo"] == "97 bpm"  # stated by the words
    with pytest.raises(MelismaError, match=r"0\.10 s are too short"):
        AudioConditions(beginning=hum(0.1))
    with pytest.raises(MelismaError, match="above 0, not -1"):
        recording_of(hum(1.0), -1)


def test_a_melody_changes_the_samples_and_silence_is_refused(composer: MusicLM) -> None:
    free, followed, other = (
        composer.generate_pieces(WALTZ, seed=1, best_of=1, context=given)[0]
        for given in (
            AudioConditions(),
            AudioConditions(melody=hum()),
            AudioConditions(melody=hum(pitch_hz=247.0)),
        )
    )
    assert not np.array_equal(played(free).tokens, played(followed).tokens)
    assert not np.array_equal(played(other).tokens, played(followed).tokens)
    plain = dataclasses.replace(WALTZ, words="a waltz")
    (piece,) = composer.generate_pieces(plain, best_of=1, context=AudioConditions(melody=hum()))
    assert piece.conditions["tune"] == "followed"
    assert "tempo" not in piece.conditions
    rng = np.random.default_rng(0)
    for silence in (np.zeros((1, 48_000)), 0.1 * rng.standard_normal((1, 48_000))):
        quiet = Waveform(samples=silence.astype(np.float32), rate_hz=24_000)
        with pytest.raises(MelismaError, match=r"no tune|silent"):
            composer.generate_pieces(WALTZ, best_of=1, context=AudioConditions(melody=quiet))


def test_a_stream_is_the_piece_block_by_block(folder: Path) -> None:
    coarse = load(str(folder))
    assert isinstance(coarse, MusicLM)
    coarse.fine = None
    (piece,) = coarse.generate_pieces(WALTZ, seed=3, best_of=1)
    blocks = list(coarse.stream(WALTZ, seed=3))
    whole = np.concatenate([block.samples for block in blocks], axis=1)
    assert len(blocks) > 2
    np.testing.assert_allclose(whole, piece.waveform.samples, atol=2e-3)


def test_weights_may_be_rounded(folder: Path) -> None:
    for precision in ("bfloat16", "int8", "int4"):
        made = load(str(folder), precision=precision)
        assert len(made.generate_pieces(WALTZ, best_of=1)) == 1
    with pytest.raises(MelismaError, match='"int3"'):
        load(str(folder), precision="int3")
