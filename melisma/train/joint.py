"""Training of the joint embedding, stage two: contrastive learning of audio and text.

The embeddings of a clip and its caption are pulled together and pushed away from all others of the
batch (contrastive loss with a learned temperature: CLIP, Radford et al., 2103.00020; for music
MuLan, Huang et al., 2208.12415), while both towers keep classifying the attributes. The text
tower's Transformer is frozen at first and its pooled states are computed once, which makes updates
cheap (compare LiT, Zhai et al., 2111.07991). Afterwards the music embeddings are quantized.
Finally `finetune_text` trains the text tower alone, with a replay of stage one's sentences, so that
words that no caption uses keep their embeddings.

Input: `MusicFeatures` and a text tower of stage one. Output: `JointEmbedding`.
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
from melisma.joint.embedding import JointEmbedding
from melisma.joint.music_tower import MusicTower, MusicTowerOutput, MusicTowerSettings
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.settings_words import read_settings
from melisma.joint.text_tower import TextTower, TextTowerOutput
from melisma.joint.tokenizer import encode_words, pad_tokens
from melisma.nn.precision import autocast
from melisma.train.datasets.music import MusicFeatures
from melisma.train.datasets.text import TextRows, accuracies
from melisma.train.initialization.fingerprint import other_settings
from melisma.train.initialization.memory import built
from melisma.train.loop import LoopSettings, Run, Task, generator_of
from melisma.train.text import ATTRIBUTE_WEIGHTS, BatchPlan, row_tensors, text_losses
from melisma.values.errors import MelismaError

BANK_VECTORS = 5_000
"""Music embeddings of the corpus that are stored with the towers (1.3 MB as float16)."""


@dataclass(frozen=True, kw_only=True)
class JointTraining:
    """Settings of a training of stage two."""

    music: MusicTowerSettings = field(default_factory=MusicTowerSettings)
    """Of the music tower."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=2_000, learning_rate=1e-3, weight_decay=0.1)
    )
    """Of the training loop."""
    batch: int = 512
    """Pairs per update."""
    text_learns: bool = False
    """Whether the whole text tower is trained, or only its projection into the joint space."""
    music_learns: bool = True
    """Whether the music tower is trained. Once other models depend on its tokens it must stay
    frozen, and only the text tower may be trained."""
    wordings: int = 12
    """Captions of each clip whose pooled states are stored while the Transformer is frozen."""
    replay_batch: int = 128
    """Sentences of stage one per update, against forgetting."""
    music_attribute_weight: float = 0.25
    """Weight of the music tower's attribute losses."""
    text_attribute_weight: float = 0.05
    """Weight of the text tower's attribute losses on captions."""
    imitation_weight: float = 3.0
    """Weight of the distance to the sentence encoder's vectors in the replay."""
    noise: float = 0.3
    """Standard deviation of the noise on standardized summaries, against overfitting."""
    steps_kept: float = 0.6
    """Share of the trunk's steps in an update, chosen at random (for the same reason)."""


class Towers(nn.Module):
    """Both towers and the temperature between them."""

    def __init__(self, text: TextTower, music: MusicTower) -> None:
        super().__init__()
        self.text = text
        self.music = music
        self.log_scale = nn.Parameter(torch.tensor(2.6))

    def contrast(self, text: Tensor, music: Tensor) -> tuple[Tensor, Tensor]:
        """Symmetric contrastive loss over a batch of pairs.

        Args:
            text: unit vectors [batch, 128].
            music: unit vectors [batch, 128] of the same pairs.

        Returns:
            (loss, share of clips that their caption retrieves first).
        """
        scores = text @ music.T * self.log_scale.clamp(max=4.6).exp()
        pairs = torch.arange(len(scores), device=scores.device)
        loss = 0.5 * (F.cross_entropy(scores, pairs) + F.cross_entropy(scores.T, pairs))
        return loss, (scores.argmax(dim=1) == pairs).float().mean()


class JointTask(Task):
    """Contrastive loss, attribute losses, and replay of stage one."""

    kind = "towers"

    def __init__(
        self,
        settings: JointTraining,
        clips: MusicFeatures,
        held: MusicFeatures,
        text: TextTower,
        tokenizer: Tokenizer,
        replay: TextRows | None,
    ) -> None:
        self.settings = settings
        self.clips = clips
        self.held = held
        self.tokenizer = tokenizer
        self.replay = replay
        torch.manual_seed(settings.loop.seed)
        music = built(lambda: MusicTower(settings.music), "cpu")
        self.trunk = None if clips.trunk is None else torch.from_numpy(clips.trunk)
        self.summary = torch.from_numpy(clips.summary)
        music.standardise(self.summary, self.trunk)
        self.towers = Towers(text, music)
        self.targets, self.known = (torch.from_numpy(a) for a in clips.targets())
        self.plan = BatchPlan(
            np.zeros(len(clips)), min(settings.batch, len(clips)), settings.loop.seed
        )
        if replay is not None:
            self.replay_tokens = encode_words(tokenizer, replay.sentences)
            self.replay_plan = BatchPlan(
                [len(ids) for ids in self.replay_tokens], settings.replay_batch, settings.loop.seed
            )
        self.frozen_music: MusicTowerOutput | None = None
        """Outputs of the frozen music tower for all clips, once computed."""
        self.pooled: Tensor | None = None
        if not settings.text_learns:
            # Stage one covered scenes and everyday words beyond these captions: only the projection
            # into the joint space is trained.
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

    def training_settings(self) -> dict[str, Any]:
        return other_settings(self.settings, self.clips, self.replay)

    @torch.no_grad()
    def _pool_captions(self) -> Tensor:
        """Pooled states of captions by the frozen text tower, float16 [wording, clip, width]."""
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
        music = self._music_output(picks, generator)
        text = self._text_output(picks, number, generator)
        contrast, found = self.towers.contrast(text.vector, music.vector)
        targets, known = self.targets[picks], self.known[picks]
        settings = self.settings
        music_loss = attribute_loss(music.logits, targets, known, ATTRIBUTE_WEIGHTS).sum()
        text_loss = attribute_loss(text.logits, targets, known, ATTRIBUTE_WEIGHTS).sum()
        total = (
            contrast
            + settings.music_attribute_weight * music_loss
            + settings.text_attribute_weight * text_loss
        )
        figures = {
            "contrast": contrast.item(),
            "found": found.item(),
            "music_attributes": music_loss.item(),
            "text_attributes": text_loss.item(),
            "scale": self.towers.log_scale.exp().item(),
        }
        if self.replay is not None and settings.text_learns:
            replayed, figures["imitation"] = self._replay_loss(number)
            total = total + replayed
        return {"towers": total}, figures

    def _music_output(self, picks: np.ndarray, generator: torch.Generator) -> MusicTowerOutput:
        if not self.settings.music_learns:
            return self._frozen_music_output(picks)
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
    def _frozen_music_output(self, picks: np.ndarray) -> MusicTowerOutput:
        """Outputs of the frozen music tower, computed for all clips once."""
        if self.frozen_music is None:
            music = self.towers.music.eval()
            parts = [
                music(self.summary[rows], None if self.trunk is None else self.trunk[rows])
                for rows in torch.arange(len(self.summary)).split(256)
            ]
            self.frozen_music = MusicTowerOutput(
                vector=torch.cat([p.vector for p in parts]),
                logits=torch.cat([p.logits for p in parts]),
            )
        music = self.frozen_music
        return MusicTowerOutput(vector=music.vector[picks], logits=music.logits[picks])

    def _text_output(
        self, picks: np.ndarray, number: int, generator: torch.Generator
    ) -> TextTowerOutput:
        if self.pooled is not None:
            wording = torch.randint(len(self.pooled), (len(picks),), generator=generator)
            return self.towers.text.read(self.pooled[wording, torch.from_numpy(picks)].float())
        rng = np.random.default_rng((self.settings.loop.seed, 1, number))
        captions = [write_captions(self.clips.facts[int(i)], rng, 1)[0] for i in picks]
        return _read_sentences(self.towers.text, self.tokenizer, captions)

    def _replay_loss(self, number: int) -> tuple[Tensor, float]:
        """(loss on sentences of stage one, mean distance to the sentence encoder's vectors)."""
        assert self.replay is not None
        picks = self.replay_plan.picks(number)
        tokens, present = pad_tokens([self.replay_tokens[int(i)] for i in picks])
        with autocast():
            output = self.towers.text(tokens, present)
        distance, attributes = text_losses(output, *row_tensors(self.replay, picks))
        attribute_part = 0.3 * attributes.sum()
        return self.settings.imitation_weight * distance + attribute_part, distance.item()

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, Towers)
        return judge_towers(averaged, self.held, self.held_words, self.tokenizer)


def _read_sentences(text: TextTower, tokenizer: Tokenizer, sentences: list[str]) -> TextTowerOutput:
    """Encodes in four batches of similar length, to avoid padding all to the longest caption."""
    encoded = encode_words(tokenizer, sentences)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    parts = []
    for chunk in np.array_split(np.array(order), min(4, len(order))):
        with autocast():
            parts.append(text(*pad_tokens([encoded[int(i)] for i in chunk])))
    inverse = torch.tensor(order).argsort()
    return TextTowerOutput(
        vector=torch.cat([p.vector for p in parts])[inverse],
        imitation=torch.cat([p.imitation for p in parts])[inverse],
        logits=torch.cat([p.logits for p in parts])[inverse],
    )


def _pool_sentences(text: TextTower, tokenizer: Tokenizer, sentences: list[str]) -> Tensor:
    """Pooled states of the text tower, float32 [sentence, width]."""
    encoded = encode_words(tokenizer, sentences)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    pooled = torch.zeros(len(encoded), text.settings.width)
    for start in range(0, len(order), 256):
        part = order[start : start + 256]
        with autocast():
            pooled[part] = text.pool(*pad_tokens([encoded[i] for i in part])).float()
    return pooled


def wordless_captions(clips: MusicFeatures, seed: int, tries: int = 12) -> list[str]:
    """One caption for each clip that states neither an exact tempo nor key, and has no digits.

    Args:
        clips: whose facts are described.
        seed: of the choice of words.
        tries: captions to choose from; if none qualifies, the first one is returned.
    """
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
    """Held-out figures: R@10 among 200 clips, mean cosine of pairs, attribute accuracies.

    Args:
        towers: the model, which is switched to evaluation mode.
        held: held-out clips.
        captions: one for each clip, without numbers.
        tokenizer: of the text tower.
    """
    towers.eval()
    trunk = None if held.trunk is None else torch.from_numpy(held.trunk)
    music = towers.music(torch.from_numpy(held.summary), trunk)
    text = _read_sentences(towers.text, tokenizer, captions)
    targets, known = held.targets()
    figures = {"R@10": recall(text.vector, music.vector, 10, 200)}
    cosine = (text.vector * music.vector).sum(dim=-1).mean()
    figures["pair_cosine"] = float(cosine)
    for side, logits in (("music", music.logits), ("text", text.logits)):
        hits = accuracies(probabilities(logits).numpy(), targets, known)
        figures |= {f"{side}/{name}": hit for name, hit in hits.items()}
    return figures


def recall(text: Tensor, music: Tensor, within: int, among: int, rounds: int = 20) -> float:
    """Recall at `within` of text-to-music retrieval among `among` random clips.

    Args:
        text: unit vectors of captions [clip, width].
        music: unit vectors of the clips [clip, width].
        within: rank up to which a clip counts as found.
        among: number of candidate clips, chosen at random.
        rounds: random choices to average over.
    """
    generator = generator_of(0, 0, "recall")
    hits = []
    for _ in range(rounds):
        picks = torch.randperm(len(text), generator=generator)[:among]
        scores = text[picks] @ music[picks].T
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
    replay: TextRows | None = None,
    music: Mapping[str, Tensor] | None = None,
) -> JointEmbedding:
    """Runs or resumes a training of both towers, then fits the quantizer.

    Args:
        settings: of the training.
        clips: training clips.
        held: held-out clips.
        text: text tower of stage one, which is trained in place.
        tokenizer: of the text tower.
        folder: of the training state; the result is written there as `joint.safetensors`.
        replay: sentences of stage one, used if `settings.text_learns`.
        music: weights of a music tower to start from.
    """
    task = JointTask(settings, clips, held, text, tokenizer, replay)
    if music is not None:
        task.towers.music.load_state_dict(dict(music))
    run = Run(task, settings.loop, folder)
    run.resume()
    checkpoint = run.run()
    task.towers.load_state_dict(checkpoint.tensors)
    joint = JointEmbedding(
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
    joint: JointEmbedding,
    clips: MusicFeatures,
    held: MusicFeatures,
    folder: Path,
    replay: TextRows | None = None,
) -> JointEmbedding:
    """Runs or resumes a training of the text tower alone; joint tokens stay valid.

    Args:
        settings: of the training, with `music_learns=False`.
        joint: the embedding to fine-tune; its text tower is trained in place.
        clips: training clips.
        held: held-out clips.
        folder: of the training state; the result is written there as `joint.safetensors`.
        replay: sentences of stage one.

    Raises:
        MelismaError: where the settings would train the music tower.
    """
    if settings.music_learns:
        raise MelismaError("fine-tuning the text tower needs settings with music_learns=False")
    before = joint.fingerprint
    task = JointTask(settings, clips, held, joint.text, joint.tokenizer, replay)
    task.towers.music.load_state_dict(joint.music.state_dict())
    run = Run(task, settings.loop, folder)
    run.resume()
    task.towers.load_state_dict(run.run().tensors)
    text = task.towers.text.requires_grad_(True)
    finetuned = JointEmbedding(text, joint.music, joint.quantiser, joint.tokenizer)
    finetuned.bank = joint.bank
    finetuned.semantic_fingerprint = joint.semantic_fingerprint
    assert finetuned.fingerprint == before
    finetuned.write(folder / "joint.safetensors")
    return finetuned
