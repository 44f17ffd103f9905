"""Both training stages of the joint embedding at toy size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from melisma.data.captions.scenes import all_scenes
from melisma.data.captions.text_only import random_facts
from melisma.data.captions.writer import write_captions
from melisma.joint import JointEmbedding, MusicTowerSettings, TextTower, TextTowerSettings
from melisma.joint.attributes import BLOCKS, NAMES, ROW_WIDTH
from melisma.joint.heads import TempoHead, TonalityHead
from melisma.joint.summary import SUMMARY_WIDTH, summary_block
from melisma.joint.tokenizer import train_tokenizer
from melisma.train.datasets.music import MusicFeatures
from melisma.train.datasets.sentence_encoder import TEACHER_WIDTH, SentenceTeacher, VectorCache
from melisma.train.datasets.text import (
    TextRows,
    accuracies,
    assemble,
    imagined_rows,
    joined,
    plain_rows,
    scene_row,
    scene_rows,
)
from melisma.train.joint import JointTraining, finetune_text, recall, train_joint, wordless_captions
from melisma.train.loop import LoopSettings
from melisma.train.text import BatchPlan, TextTraining, read_text, train_text
from melisma.values import Facts
from melisma.values.errors import MelismaError

TOWER = TextTowerSettings(vocabulary=600, width=32, layers=1, heads=2, dropout=0.0)


class ToyTeacher(SentenceTeacher):
    """Hashes words instead of understanding them."""

    def __init__(self) -> None:
        self.encoded = 0

    def embed(self, sentences: object) -> np.ndarray:
        assert isinstance(sentences, list)
        self.encoded += len(sentences)
        rows = [np.random.default_rng(len(s)).standard_normal(TEACHER_WIDTH) for s in sentences]
        return np.stack([r / np.linalg.norm(r) for r in rows]).astype(np.float32)


@pytest.fixture(scope="module")
def facts() -> tuple[Facts, ...]:
    rng = np.random.default_rng(0)
    return tuple(random_facts(rng) for _ in range(48))


@pytest.fixture(scope="module")
def tokenizer(facts: tuple[Facts, ...]) -> Tokenizer:
    rng = np.random.default_rng(1)
    return train_tokenizer([c for f in facts for c in write_captions(f, rng, 3)], vocabulary=600)


def loop(updates: int) -> LoopSettings:
    return LoopSettings(
        updates=updates, warmup_updates=2, log_updates=4, sample_updates=updates,
        checkpoint_updates=updates, average_decay=0.5, learning_rate=3e-3,
    )  # fmt: skip


def features_of(facts: tuple[Facts, ...]) -> MusicFeatures:
    """Features that depend on the lead family alone."""
    rng = np.random.default_rng(2)
    summary = 0.1 * rng.standard_normal((len(facts), SUMMARY_WIDTH)).astype(np.float32)
    for row, one in zip(summary, facts, strict=True):
        row[sum(map(ord, one.lead or "")) % 64] += 3.0
    trunk = rng.standard_normal((len(facts), 25, 8)).astype(np.float16)
    return MusicFeatures(summary=summary, trunk=trunk, facts=facts)


def test_an_epoch_sees_every_row_once_and_numbers_decide() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 4_096)
    plan = BatchPlan(lengths, 64, seed=3)
    first = np.concatenate([plan.picks(n) for n in range(64)])
    assert sorted(first.tolist()) == list(range(4_096))
    again = BatchPlan(lengths, 64, seed=3)
    np.testing.assert_array_equal(again.picks(70), plan.picks(70))
    spread = np.mean([np.ptp(lengths[plan.picks(n)]) for n in range(64)])
    assert spread < 0.25 * np.ptp(lengths)


def test_teacher_vectors_are_kept(tmp_path: Path) -> None:
    teacher = ToyTeacher()
    cache = VectorCache(tmp_path / "vectors.npz")
    first = cache.vectors(["a", "bb", "a"], teacher)
    assert teacher.encoded == 2
    cache.save()
    again = VectorCache(tmp_path / "vectors.npz").vectors(["bb", "a"], None)
    np.testing.assert_array_equal(again, first[[1, 0]])
    with pytest.raises(MelismaError, match="lack a teacher vector"):
        VectorCache(tmp_path / "vectors.npz").vectors(["new"], None)


def test_scenes_share_probability_among_alternatives() -> None:
    for scene in all_scenes():
        target, known = scene_row(scene)
        for name in ("tempo", "style", "tonality", "lead"):
            if known[NAMES.index(name)]:
                assert target[BLOCKS[name]].sum() == pytest.approx(1.0, abs=1e-3)


def test_any_expected_class_is_right() -> None:
    targets = np.zeros((1, ROW_WIDTH), np.float32)
    targets[0, BLOCKS["style"].start + np.array([2, 4])] = 0.5
    known = np.zeros((1, len(NAMES)), np.float32)
    known[0, NAMES.index("style")] = 1
    said = np.zeros((1, ROW_WIDTH), np.float32)
    said[0, BLOCKS["style"].start + 4] = 0.9
    assert accuracies(said, targets, known) == {"style": 1.0}
    said[0, BLOCKS["style"].start + 5] = 1.0
    assert accuracies(said, targets, known) == {"style": 0.0}


def test_readers_move_with_the_music() -> None:
    torch.manual_seed(0)
    tonality, tempo = TonalityHead().eval(), TempoHead().eval()
    chroma = torch.rand(2, 3, 12)
    moved = tonality(chroma.roll(5, dims=2).flatten(1)).unflatten(1, (2, 12))
    still = tonality(chroma.flatten(1)).unflatten(1, (2, 12))
    torch.testing.assert_close(moved, still.roll(5, dims=2))
    tempogram = torch.zeros(1, 2, 96)
    tempogram[..., 40] = 1.0
    lines = [tempo(tempogram.roll(shift, dims=2).flatten(1))[0] for shift in (0, 6)]
    torch.testing.assert_close(lines[1][13:33], lines[0][10:30])
    assert summary_block("tempogram").stop == SUMMARY_WIDTH


def test_stage_one_learns_and_its_file_is_read_back(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(4)
    cache = VectorCache(tmp_path / "vectors.npz")
    rows = joined(
        [
            assemble(scene_rows(rng, 1, all_scenes()[:40]), cache, ToyTeacher()),
            assemble(imagined_rows(60, rng), None, None),
            assemble(plain_rows(["a harbour", "velvet"]), cache, ToyTeacher()),
        ]
    )
    assert isinstance(rows, TextRows)
    assert rows.vectors.any(axis=1).sum() == 42
    settings = TextTraining(tower=TOWER, loop=loop(12), batch=16, head_updates=10)
    tower = train_text(settings, rows, tokenizer, tmp_path / "run", {"held": rows})
    again, same = read_text(tmp_path / "run" / "text.safetensors")
    assert same.get_vocab_size() == tokenizer.get_vocab_size()
    for one, other in zip(tower.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_stage_two_brings_words_and_sound_together(
    tmp_path: Path, tokenizer: Tokenizer, facts: tuple[Facts, ...]
) -> None:
    torch.manual_seed(0)
    clips = features_of(facts)
    settings = JointTraining(
        music=MusicTowerSettings(trunk_width=8, width=16, layers=1, heads=2, dropout=0.0),
        loop=loop(150),
        batch=24,
        wordings=4,
    )
    joint = train_joint(settings, clips, clips, TextTower(TOWER), tokenizer, tmp_path / "run")
    captions = wordless_captions(clips, seed=0)
    words = torch.from_numpy(joint.embed_text(captions))
    music = torch.from_numpy(joint.embed_music(clips.summary, clips.trunk))
    assert recall(words, music, 5, 48) > 2 * 5 / 48
    tokens = joint.quantise(music.numpy())
    assert float((joint.dequantise(tokens) * music.numpy()).sum(axis=1).mean()) > 0.9
    again = JointEmbedding.read(tmp_path / "run" / "joint.safetensors")
    assert again.fingerprint == joint.fingerprint

    replay = assemble(imagined_rows(30, np.random.default_rng(0)), None, None)
    finetuning = dataclasses.replace(
        settings, text_learns=True, music_learns=False, loop=loop(6), replay_batch=8
    )
    before = again.text.state_dict()["table.weight"].clone()
    finetuned = finetune_text(finetuning, again, clips, clips, tmp_path / "finetune_text", replay)
    assert finetuned.fingerprint == joint.fingerprint
    assert not torch.equal(finetuned.text.state_dict()["table.weight"], before)
    np.testing.assert_array_equal(finetuned.quantise(music.numpy()), tokens)
    with pytest.raises(MelismaError, match="music_learns"):
        finetune_text(settings, again, clips, clips, tmp_path / "wrong")
