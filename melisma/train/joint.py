"""Stage two of the joint ear: words and sound meet.

A clip and a caption of it are drawn together and pushed apart from all others of the batch
(contrastive loss with a learned temperature: CLIP, Radford et al., 2103.00020; for music MuLan,
Huang et al., 2208.12415), while both towers go on naming the attributes. First the text tower's
transformer rests and its pooled states are computed once, which makes an update cheap (compare
LiT, Zhai et al., 2111.07991). Then the vectors of the music are quantised. At last, `polish_text`,
the text tower learns alone, and the lessons of stage one are repeated so that unseen words stay
where they are.

Enters: `MusicFeatures`, a text tower of stage one. Leaves: `Joint`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.data.captions.writer import write_captions
from melisma.joint.attributes import attribute_loss, probabilities
from melisma.joint.embedding import Joint
from melisma.joint.music_tower import MusicReading, MusicTower, MusicTowerSettings
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.settings_words import read_settings
from melisma.joint.text_tower import TextReading, TextTower
from melisma.joint.tokenizer import encode_words, pad_tokens
from melisma.nn.precision import autocast
from melisma.train.datasets.music import MusicFeatures
from melisma.train.datasets.text import TextRows, accuracies
from melisma.train.loop import LoopSettings, Run, Task, generator_of
from melisma.train.text import ATTRIBUTE_WEIGHTS, BatchPlan, row_tensors, text_losses

BANK_VECTORS = 5_000
"""Vectors of the corpus that are kept beside the towers (1.3 MB as float16)."""


@dataclass(frozen=True, kw_only=True)
class JointTraining:
    """A whole run of stage two."""

    music: MusicTowerSettings = field(default_factory=MusicTowerSettings)
    """The music tower."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=2_000, learning_rate=1e-3, weight_decay=0.1)
    )
    """How long and how fast."""
    batch: int = 512
    """Pairs of one update."""
    text_learns: bool = False
    """Whether the whole text tower learns, or only its way into the joint space."""
    music_learns: bool = True
    """Whether the music tower learns. Once its vectors are tokens that others rely on it must rest,
    and the text tower alone may go on."""
    wordings: int = 12
    """Captions of each clip whose pooled states are kept while the transformer rests."""
    replay_batch: int = 128
    """Rows of stage one in an update, to keep what was learned there."""
    music_attribute_weight: float = 0.25
    """Weight of the attributes that the music tower names."""
    text_attribute_weight: float = 0.05
    """Weight of the attributes that the text tower names in captions."""
    imitation_weight: float = 3.0
    """Weight of the sentence encoder's vectors in the lessons."""
    noise: float = 0.3
    """Spread of the noise on standardised summaries, so that clips are not learned by heart."""
    steps_kept: float = 0.6
    """Share of the trunk's steps that an update hears, drawn anew (for the same reason)."""


class Towers(nn.Module):
    """Both towers and the temperature between them."""

    def __init__(self, text: TextTower, music: MusicTower) -> None:
        super().__init__()
        self.text = text
        self.music = music
        self.log_scale = nn.Parameter(torch.tensor(2.6))

    def contrast(self, words: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [batch, 128] of both sides -> (loss, share of clips found by words)."""
        scores = words @ heard.T * self.log_scale.clamp(max=4.6).exp()
        pairs = torch.arange(len(scores), device=scores.device)
        loss = 0.5 * (F.cross_entropy(scores, pairs) + F.cross_entropy(scores.T, pairs))
        return loss, (scores.argmax(dim=1) == pairs).float().mean()


class JointTask(Task):
    """Contrast, attributes, and lessons repeated."""

    kind = "towers"

    def __init__(
        self,
        settings: JointTraining,
        clips: MusicFeatures,
        held: MusicFeatures,
        text: TextTower,
        tokenizer: Tokenizer,
        lessons: TextRows | None,
    ) -> None:
        self.settings = settings
        self.clips = clips
        self.held = held
        self.tokenizer = tokenizer
        self.lessons = lessons
        torch.manual_seed(settings.loop.seed)
        music = MusicTower(settings.music)
        self.trunk = None if clips.trunk is None else torch.from_numpy(clips.trunk)
        self.summary = torch.from_numpy(clips.summary)
        music.standardise(self.summary, self.trunk)
        self.towers = Towers(text, music)
        self.targets, self.known = (torch.from_numpy(a) for a in clips.targets())
        self.plan = BatchPlan(
            np.zeros(len(clips)), min(settings.batch, len(clips)), settings.loop.seed
        )
        if lessons is not None:
            self.lesson_tokens = encode_words(tokenizer, lessons.sentences)
            self.lesson_plan = BatchPlan(
                [len(ids) for ids in self.lesson_tokens], settings.replay_batch, settings.loop.seed
            )
        self.heard: MusicReading | None = None
        self.pooled: Tensor | None = None
        if not settings.text_learns:
            # What stage one taught of scenes and everyday words is wider than these captions: only
            # the way into the joint space learns.
            text.requires_grad_(False)
            text.to_joint.requires_grad_(True)
            self.pooled = self._pool_captions()
        if not settings.music_learns:
            music.requires_grad_(False)
        self.held_words = wordless_captions(held, seed=settings.loop.seed)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"towers": self.towers}

    def settings_tree(self) -> dict[str, Any]:
        return {
            "text": dataclasses.asdict(self.towers.text.settings),
            "music": dataclasses.asdict(self.settings.music),
            "text_learns": self.settings.text_learns,
            "music_learns": self.settings.music_learns,
        }

    @torch.no_grad()
    def _pool_captions(self) -> Tensor:
        """Pooled states of captions, float16 [wording, clip, width]."""
        text = self.towers.text.eval()
        rounds = []
        for wording in range(self.settings.wordings):
            rng = np.random.default_rng((self.settings.loop.seed, wording))
            captions = [write_captions(facts, rng, 1)[0] for facts in self.clips.facts]
            rounds.append(_pool_sentences(text, self.tokenizer, captions).half())
        return torch.stack(rounds)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        picks = self.plan.picks(number)
        self.towers.train()
        heard = self._hear(picks, generator)
        said = self._say(picks, number, generator)
        contrast, found = self.towers.contrast(said.vector, heard.vector)
        targets, known = self.targets[picks], self.known[picks]
        settings = self.settings
        named = attribute_loss(heard.logits, targets, known, ATTRIBUTE_WEIGHTS).sum()
        meant = attribute_loss(said.logits, targets, known, ATTRIBUTE_WEIGHTS).sum()
        total = (
            contrast
            + settings.music_attribute_weight * named
            + settings.text_attribute_weight * meant
        )
        figures = {
            "contrast": contrast.item(),
            "found": found.item(),
            "music_attributes": named.item(),
            "text_attributes": meant.item(),
            "scale": self.towers.log_scale.exp().item(),
        }
        if self.lessons is not None and settings.text_learns:
            lesson, away = self._lesson(number)
            total, figures["imitation"] = total + lesson, away
        return {"towers": total}, figures

    def _hear(self, picks: np.ndarray, generator: torch.Generator) -> MusicReading:
        if not self.settings.music_learns:
            return self._remember(picks)
        summary = self.summary[picks]
        noise = torch.randn(summary.shape, generator=generator) * self.settings.noise
        summary = summary + noise * self.towers.music.summary_spread
        trunk = None if self.trunk is None else self.trunk[picks]
        if trunk is not None:
            steps = torch.randperm(trunk.shape[1], generator=generator)
            kept = steps[: max(round(self.settings.steps_kept * len(steps)), 1)].sort().values
            trunk = trunk[:, kept]
        with autocast():
            return self.towers.music(summary, trunk)

    @torch.no_grad()
    def _remember(self, picks: np.ndarray) -> MusicReading:
        """What the resting music tower makes of the clips; heard once."""
        if self.heard is None:
            music = self.towers.music.eval()
            parts = [
                music(self.summary[rows], None if self.trunk is None else self.trunk[rows])
                for rows in torch.arange(len(self.summary)).split(256)
            ]
            self.heard = MusicReading(
                vector=torch.cat([p.vector for p in parts]),
                logits=torch.cat([p.logits for p in parts]),
            )
        return MusicReading(vector=self.heard.vector[picks], logits=self.heard.logits[picks])

    def _say(self, picks: np.ndarray, number: int, generator: torch.Generator) -> TextReading:
        if self.pooled is not None:
            wording = torch.randint(len(self.pooled), (len(picks),), generator=generator)
            return self.towers.text.read(self.pooled[wording, torch.from_numpy(picks)].float())
        rng = np.random.default_rng((self.settings.loop.seed, 1, number))
        captions = [write_captions(self.clips.facts[int(i)], rng, 1)[0] for i in picks]
        return _read_sentences(self.towers.text, self.tokenizer, captions)

    def _lesson(self, number: int) -> tuple[Tensor, float]:
        assert self.lessons is not None
        picks = self.lesson_plan.picks(number)
        tokens, present = pad_tokens([self.lesson_tokens[int(i)] for i in picks])
        with autocast():
            reading = self.towers.text(tokens, present)
        away, attributes = text_losses(reading, *row_tensors(self.lessons, picks))
        weight = 0.3 * attributes.sum()
        return self.settings.imitation_weight * away + weight, away.item()

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, Towers)
        return judge_towers(averaged, self.held, self.held_words, self.tokenizer)


def _read_sentences(text: TextTower, tokenizer: Tokenizer, sentences: list[str]) -> TextReading:
    """Reads in four batches of similar length: long captions would pad all others."""
    encoded = encode_words(tokenizer, sentences)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    parts = []
    for chunk in np.array_split(np.array(order), min(4, len(order))):
        with autocast():
            parts.append(text(*pad_tokens([encoded[int(i)] for i in chunk])))
    back = torch.tensor(order).argsort()
    return TextReading(
        vector=torch.cat([p.vector for p in parts])[back],
        imitation=torch.cat([p.imitation for p in parts])[back],
        logits=torch.cat([p.logits for p in parts])[back],
    )


def _pool_sentences(text: TextTower, tokenizer: Tokenizer, sentences: list[str]) -> Tensor:
    """Pooled states float32 [sentence, width]."""
    encoded = encode_words(tokenizer, sentences)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    pooled = torch.zeros(len(encoded), text.settings.width)
    for start in range(0, len(order), 256):
        part = order[start : start + 256]
        with autocast():
            pooled[part] = text.pool(*pad_tokens([encoded[i] for i in part])).float()
    return pooled


def wordless_captions(clips: MusicFeatures, seed: int, tries: int = 12) -> list[str]:
    """For each clip a caption that states neither tempo nor tonality exactly, and no number."""
    captions = []
    for index, facts in enumerate(clips.facts):
        rng = np.random.default_rng((seed, 7, index))
        bare = dataclasses.replace(facts, title=None, composer=None)
        options = write_captions(bare, rng, tries)
        captions.append(next((one for one in options if _numberless(one)), options[0]))
    return captions


def _numberless(caption: str) -> bool:
    stated = read_settings(caption)
    plain = not any(character.isdigit() for character in caption)
    return plain and stated.tempo_bpm is None and stated.tonality is None


@torch.no_grad()
def judge_towers(
    towers: Towers, held: MusicFeatures, captions: list[str], tokenizer: Tokenizer
) -> dict[str, float]:
    """R@10 among 200 clips by captions without numbers, and attributes heard and read."""
    towers.eval()
    trunk = None if held.trunk is None else torch.from_numpy(held.trunk)
    heard = towers.music(torch.from_numpy(held.summary), trunk)
    said = _read_sentences(towers.text, tokenizer, captions)
    targets, known = held.targets()
    figures = {"R@10": recall(said.vector, heard.vector, 10, 200)}
    gap = (said.vector * heard.vector).sum(dim=-1).mean()
    figures["pair_cosine"] = float(gap)
    for side, logits in (("music", heard.logits), ("text", said.logits)):
        hits = accuracies(probabilities(logits).numpy(), targets, known)
        figures |= {f"{side}/{name}": hit for name, hit in hits.items()}
    return figures


def recall(words: Tensor, heard: Tensor, within: int, among: int, draws: int = 20) -> float:
    """How often the clip is among the `within` nearest of `among` clips, over random draws."""
    generator = generator_of(0, 0, "recall")
    hits = []
    for _ in range(draws):
        picks = torch.randperm(len(words), generator=generator)[:among]
        scores = words[picks] @ heard[picks].T
        rank = (scores > scores.diagonal()[:, None]).sum(dim=1)
        hits.append((rank < within).float().mean())
    return float(torch.stack(hits).mean())


def train_joint(
    settings: JointTraining,
    clips: MusicFeatures,
    held: MusicFeatures,
    text: TextTower,
    tokenizer: Tokenizer,
    folder: Path,
    lessons: TextRows | None = None,
    music: Mapping[str, Tensor] | None = None,
) -> Joint:
    """Trains or resumes in `folder`, fits the quantiser, writes `joint.safetensors` there.

    `music`: weights of the music tower to start from, e.g. those of a run before.
    """
    task = JointTask(settings, clips, held, text, tokenizer, lessons)
    if music is not None:
        task.towers.music.load_state_dict(dict(music))
    run = Run(task, settings.loop, folder)
    run.resume()
    checkpoint = run.run()
    task.towers.load_state_dict(checkpoint.tensors)
    joint = Joint(
        task.towers.text.requires_grad_(True), task.towers.music, VectorQuantizer(), tokenizer
    )
    vectors = torch.from_numpy(joint.embed_music(clips.summary, clips.trunk))
    generator = generator_of(settings.loop.seed, 0, "quantiser")
    joint.quantiser.fit(vectors, generator)
    joint.bank = vectors[torch.randperm(len(vectors), generator=generator)[:BANK_VECTORS]].numpy()
    joint.write(folder / "joint.safetensors")
    return joint


def finetune_text(
    settings: JointTraining,
    joint: Joint,
    clips: MusicFeatures,
    held: MusicFeatures,
    folder: Path,
    lessons: TextRows | None = None,
) -> Joint:
    """Trains the text tower alone against the resting music tower; joint tokens stay valid.

    Trains or resumes in `folder` and writes `joint.safetensors` there. `ValueError` where the
    settings would move the music tower.
    """
    if settings.music_learns:
        raise ValueError("polishing the text tower asks for settings with music_learns=False")
    before = joint.fingerprint
    task = JointTask(settings, clips, held, joint.text, joint.tokenizer, lessons)
    task.towers.music.load_state_dict(joint.music.state_dict())
    run = Run(task, settings.loop, folder)
    run.resume()
    task.towers.load_state_dict(run.run().tensors)
    text = task.towers.text.requires_grad_(True)
    polished = Joint(text, joint.music, joint.quantiser, joint.tokenizer)
    polished.bank = joint.bank
    polished.semantic_fingerprint = joint.semantic_fingerprint
    assert polished.fingerprint == before
    polished.write(folder / "joint.safetensors")
    return polished
