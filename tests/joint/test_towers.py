"""Both towers, the tokenizer, the quantiser and the file that holds them, at toy size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from melisma.joint import (
    JointEmbedding,
    MusicTower,
    MusicTowerSettings,
    TextTower,
    TextTowerSettings,
)
from melisma.joint.music_tower import cut_windows
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.summary import SUMMARY_WIDTH
from melisma.joint.tokenizer import NUMBERS, encode_words, pad_tokens, train_tokenizer
from melisma.values.errors import MelismaError

SENTENCES = ("a slow waltz for piano", "fast drums at 120 bpm", "a storm at sea, 七月, in C# minor")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(SENTENCES, vocabulary=700)


def make_joint(tokenizer: Tokenizer) -> JointEmbedding:
    torch.manual_seed(0)
    text = TextTower(TextTowerSettings(vocabulary=700, width=32, layers=2, heads=2))
    music = MusicTower(MusicTowerSettings(trunk_width=16, width=32, layers=1, heads=2))
    quantiser = VectorQuantizer(levels=3, entries=8)
    vectors = torch.nn.functional.normalize(torch.randn(64, 128), dim=-1)
    quantiser.fit(vectors, torch.Generator().manual_seed(0), rounds=5)
    joint = JointEmbedding(text, music, quantiser, tokenizer)
    joint.bank = vectors.half().float().numpy()
    return joint


def test_tempi_are_single_tokens_and_other_numbers_digits(tokenizer: Tokenizer) -> None:
    for number in NUMBERS:
        assert str(number) in tokenizer.encode(f"at {number} bpm").tokens
        assert str(number) in tokenizer.encode(f"{number}bpm").tokens
    assert [t for t in tokenizer.encode("in 1975").tokens if t.isdigit()] == list("1975")
    assert "92" not in tokenizer.encode("92.5 bpm").tokens


def test_nothing_is_unreadable(tokenizer: Tokenizer) -> None:
    for words in ("七月的雨", "🎷🎷", "Ünïcödé", "ＦＵＬＬ", "\x00\t"):
        assert encode_words(tokenizer, [words])[0]
    assert tokenizer.decode(tokenizer.encode("七月 🎷").ids).strip() == "七月 🎷"
    assert encode_words(tokenizer, [""]) == [[0]]
    assert encode_words(tokenizer, ["FAST  waltz"]) == encode_words(tokenizer, ["fast waltz "])


def test_padding_and_company_do_not_change_a_sentence(tokenizer: Tokenizer) -> None:
    joint = make_joint(tokenizer)
    together = joint.embed_text(SENTENCES)
    alone = np.concatenate([joint.embed_text([s]) for s in SENTENCES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


def test_padding_marks_what_is_there() -> None:
    tokens, present = pad_tokens([[5, 6, 7], [8]])
    assert tokens.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert present.tolist() == [[True, True, True], [True, False, False]]


def test_a_music_tower_with_trunk_asks_for_it(tokenizer: Tokenizer) -> None:
    joint = make_joint(tokenizer)
    summary = np.random.default_rng(0).standard_normal((3, SUMMARY_WIDTH)).astype(np.float32)
    with pytest.raises(MelismaError, match="trunk"):
        joint.embed_music(summary)
    trunk = np.random.default_rng(1).standard_normal((3, 25, 16)).astype(np.float16)
    assert joint.embed_music(summary, trunk).shape == (3, 128)
    assert len(joint.predict_attributes(summary, trunk)) == 3
    piece = joint.embed_piece(summary, trunk)
    assert np.linalg.norm(piece) == pytest.approx(1.0, abs=1e-5)


def test_more_levels_come_nearer(tokenizer: Tokenizer) -> None:
    joint = make_joint(tokenizer)
    vectors = np.random.default_rng(0).standard_normal((40, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tokens = joint.quantise(vectors)
    assert tokens.shape == (40, 3)
    near = [float((joint.dequantise(tokens[:, :n]) * vectors).sum(1).mean()) for n in (1, 2, 3)]
    assert near[0] < near[1] < near[2]
    assert not joint.dequantise(tokens[:, :0]).any()


def test_words_are_replaced_by_the_music_nearest_to_them(tokenizer: Tokenizer) -> None:
    joint = make_joint(tokenizer)
    words = joint.embed_text(SENTENCES)
    one = joint.nearest_music(words, nearest=1)
    best = joint.bank[(words @ joint.bank.T).argmax(axis=1)]
    np.testing.assert_allclose(one, best, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(joint.nearest_music(words), axis=1), 1, atol=1e-5)


def test_the_file_gives_back_the_same_joint(tokenizer: Tokenizer, tmp_path: Path) -> None:
    joint = make_joint(tokenizer)
    joint.semantic_fingerprint = "abc"
    joint.write(tmp_path / "joint.safetensors")
    again = JointEmbedding.read(tmp_path / "joint.safetensors")
    np.testing.assert_array_equal(again.embed_text(SENTENCES), joint.embed_text(SENTENCES))
    assert (again.fingerprint, again.semantic_fingerprint) == (joint.fingerprint, "abc")
    np.testing.assert_array_equal(again.bank, joint.bank)
    joint.write(tmp_path / "small.safetensors", precision="int8")
    small = JointEmbedding.read(tmp_path / "small.safetensors").embed_text(SENTENCES)
    assert (small * joint.embed_text(SENTENCES)).sum(axis=1).min() > 0.99


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "joint.safetensors"
    path.write_bytes(b"RIFF no checkpoint at all")
    with pytest.raises(MelismaError, match="no whole checkpoint"):
        JointEmbedding.read(path)


def test_a_prompt_is_read_exactly_where_it_is_exact(tokenizer: Tokenizer) -> None:
    reading = make_joint(tokenizer).read_prompt("a waltz in F# minor at 97 bpm for oboe, no drums")
    assert reading.tempo_bpm == 97.0
    assert reading.best("tonality") == ("F# minor", 1.0)
    assert reading.best("metre") == ("3/4", 1.0)
    assert reading.best("lead")[0] == "reeds"
    assert reading.probabilities("families")["drums"] == 0.0


def test_windows_cover_the_sound_to_its_end() -> None:
    sound = torch.arange(25.0)
    windows = cut_windows(sound, rate_hz=1)
    assert windows.shape == (4, 10)
    assert windows[-1, -1] == 24
    assert cut_windows(torch.ones(3), rate_hz=1).tolist() == [[1.0] * 3 + [0.0] * 7]
