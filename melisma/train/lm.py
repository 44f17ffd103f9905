"""Training of the token language model's stages, from token shards.

The stages are those of MusicLM (2301.11325, section 3.2): *semantic* predicts semantic tokens from
style, attributes, rhythm and melody; *coarse* predicts the first acoustic levels, given the
semantic tokens of the same frames; *fine* predicts the other levels. All are conditioned on the
music tower's outputs for the clip, and every conditioning slot is dropped at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.files.shards import ShardReader
from melisma.lm.conditioning import (
    ATTRIBUTE_SIZES,
    MELODY_SIZE,
    Condition,
    Conditioning,
    ConditioningSettings,
    DropSettings,
    drop,
    text_condition,
)
from melisma.lm.embedding_init import start_from_codes
from melisma.lm.model import TokenModel, TokenModelSettings
from melisma.nn.precision import autocast
from melisma.tokenizers import check_tokenizer_fingerprints
from melisma.train.initialization.fingerprint import other_settings
from melisma.train.initialization.memory import built
from melisma.train.loop import STATE_FILE, LoopSettings, Run, Task, generator_of
from melisma.values.errors import MelismaError

STAGES = ("semantic", "coarse", "fine")


@dataclass(frozen=True, kw_only=True)
class TokenCorpus:
    """All rows of a folder of token shards in memory (1.6 MB an hour)."""

    acoustic: Tensor
    """Codec tokens, int16 [clip, level, frame]."""
    semantic: Tensor
    """Semantic tokens, int16 [clip, level, frame]."""
    style: Tensor
    """Joint embedding reconstructed from the first n + 1 levels of its tokens, float16 [clip,
    window, level, 128]."""
    attributes: Tensor
    """int64 [clip, window, attribute]."""
    families: Tensor
    """float32 [clip, window, family]."""
    rhythm: Tensor
    """Beat and bar phases, float16 [clip, frame, 2]; nan where unknown."""
    melody: Tensor
    """uint8 [clip, frame]."""
    captions: tuple[tuple[str, ...], ...]
    """Captions of each clip."""
    fingerprints: dict[str, str]
    """Of the tokenizers, by name."""

    def __len__(self) -> int:
        return len(self.acoustic)

    def part(self, rows: Tensor) -> TokenCorpus:
        """The clips numbered `rows`."""
        return dataclasses.replace(
            self,
            captions=tuple(self.captions[row] for row in rows.tolist()),
            **{
                one.name: getattr(self, one.name)[rows]
                for one in dataclasses.fields(self)
                if one.name not in ("fingerprints", "captions")
            },
        )


@dataclass(frozen=True, kw_only=True)
class CaptionEncoder:
    """Frozen text encoder of a model that is conditioned on captions."""

    read: Callable[[Sequence[str]], tuple[Tensor, Tensor]]
    """Sentences -> (hidden states float32 [sentence, token, width], lengths int64 [sentence])."""
    fingerprint: str
    """Of everything that determines the hidden states."""
    captions: str = "exact"
    """Kind of the captions; a run can be resumed only with the same kind."""


def read_corpus(
    folder: Path, style_codes: Tensor, fingerprints: dict[str, str], *, predicted_only: bool = False
) -> TokenCorpus:
    """Reads every row of a folder of token shards.

    Args:
        folder: the shards.
        style_codes: codebooks of the joint embedding's quantizer [level, entry, 128].
        fingerprints: of the tokenizers, by name.
        predicted_only: takes attributes and families as the music tower predicts them, also where
            a row has the true ones.

    Raises:
        MelismaError: where there is no row, or one with tokens of other tokenizers.
    """
    columns: dict[str, list[np.ndarray]] = {}
    captions: list[tuple[str, ...]] = []
    for row in ShardReader(folder):
        check_tokenizer_fingerprints(folder, row.facts, fingerprints)
        texts = row.facts.get("captions")
        captions.append(tuple(map(str, texts)) if isinstance(texts, list) else ())
        for name, array in _conditioned(row.arrays, predicted_only).items():
            columns.setdefault(name, []).append(array)
    if not columns:
        raise MelismaError(f"{folder} holds no tokens: write them with `melisma prepare --tokens`")
    stacked = {name: np.stack(arrays) for name, arrays in columns.items()}
    style = torch.from_numpy(stacked["style"].astype(np.int64))
    parts = torch.stack(
        [style_codes[level][style[..., level]] for level in range(style.shape[-1])], dim=2
    )
    return TokenCorpus(
        acoustic=torch.from_numpy(stacked["acoustic"].astype(np.int16)),
        semantic=torch.from_numpy(stacked["semantic"].astype(np.int16)),
        style=F.normalize(parts.cumsum(dim=2), dim=-1).half(),
        attributes=torch.from_numpy(stacked["attributes"].astype(np.int64)),
        families=torch.from_numpy(stacked["families"].astype(np.float32)),
        rhythm=torch.from_numpy(stacked["rhythm"]),
        melody=torch.from_numpy(stacked["melody"]),
        captions=tuple(captions),
        fingerprints=fingerprints,
    )


def _conditioned(arrays: Mapping[str, np.ndarray], predicted_only: bool) -> dict[str, np.ndarray]:
    """A row's arrays, with known attributes and families instead of predicted ones."""
    out = {name: array for name, array in arrays.items() if not name.startswith("known_")}
    if not predicted_only and "known_attributes" in arrays:
        windows = len(arrays["attributes"])
        sizes = np.array([size for _, size in ATTRIBUTE_SIZES], dtype=np.uint8)
        known = np.broadcast_to(arrays["known_attributes"], (windows, len(sizes)))
        out["attributes"] = np.where(known < sizes, known, arrays["attributes"])
        families = arrays["known_families"]
        if families.any():
            out["families"] = np.broadcast_to(families, (windows, len(families)))
    return out


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """Settings of a training of one stage."""

    stage: str
    """One of `STAGES`."""
    model: TokenModelSettings
    """Of the network."""
    loop: LoopSettings
    """Of the training loop."""
    drop: DropSettings = field(default_factory=DropSettings)
    """Probabilities of dropping conditions."""
    batch: int = 16
    """Crops per update."""
    crop_frames: int = 500
    """Frames of a crop."""
    short_crop_from: float = 0.7
    """Share of the updates after which crops are short: in long crops the context reveals key and
    instruments, and a model learns to start a piece only from many beginnings."""
    short_crop_frames: int = 64
    """Frames of a short crop; the batch is larger in proportion."""
    short_crop_drop: DropSettings = field(
        default_factory=lambda: DropSettings(
            style=0.25, attribute=0.15, families=0.25, rhythm=0.1, melody=0.85
        )
    )
    """Probabilities of dropping conditions from short crops."""
    short_crop_updates: int = 0
    """Additional updates with short crops only, with a learning rate schedule of their own. With
    them a semantic stage followed its text, which it did not after short crops at the end of the
    main schedule."""
    short_crop_rate: float = 8e-4
    """Peak learning rate of the additional updates."""
    dropout: float = 0.05
    """Dropout of the transformer."""
    source_damage: float = 0.05
    """Share of source tokens replaced by random ones: sampled source tokens have errors, too."""
    device: str = "cpu"
    """Device of the training."""


class StageTask(Task):
    """Cross-entropy on crops: of the next tokens, or of one level given those below it."""

    def __init__(
        self,
        settings: StageTraining,
        train: TokenCorpus,
        held: TokenCorpus,
        words: CaptionEncoder | None = None,
    ) -> None:
        """
        Args:
            settings: of the training.
            train: training clips.
            held: held-out clips.
            words: encodes the captions for a model that is conditioned on text.

        Raises:
            MelismaError: for an unknown stage, or a missing text encoder.
        """
        if settings.model.conditions.text_width and words is None:
            raise MelismaError("this stage is conditioned on captions: it needs a text encoder")
        self.words = words
        if settings.stage not in STAGES:
            raise MelismaError(f'no stage "{settings.stage}": known are {", ".join(STAGES)}')
        self.settings = settings
        self.kind = settings.stage + "_lm"
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.model = built(lambda: TokenModel(settings.model), settings.device)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The stage's model."""
        return {self.settings.stage: self.model}

    def settings_tree(self) -> dict[str, Any]:
        """Settings of the network."""
        return dataclasses.asdict(self.settings.model)

    def training_settings(self) -> dict[str, Any]:
        """The other settings, and a fingerprint of the clips."""
        return other_settings(self.settings, self.train)

    def fingerprints(self) -> dict[str, str]:
        """Of the tokenizers and the text encoder."""
        if self.words is None:
            return self.train.fingerprints
        text = {"words": self.words.fingerprint, "captions": self.words.captions}
        return self.train.fingerprints | text

    def batch(
        self,
        corpus: TokenCorpus,
        generator: torch.Generator,
        count: int,
        drops: DropSettings | None,
        crop_frames: int,
    ) -> tuple[Tensor, Conditioning]:
        """Random crops of a corpus.

        Args:
            corpus: training or held-out clips.
            generator: of all random choices.
            count: number of crops.
            drops: probabilities of dropping conditions; None: no drops and intact source tokens.
            crop_frames: length, at most that of the clips.

        Returns:
            (tokens int64 [batch, level, frame], conditions), on the training device.
        """
        s = self.settings
        frames = min(crop_frames, corpus.semantic.shape[2])
        rows = torch.randint(len(corpus), (count,), generator=generator)
        starts = torch.randint(corpus.semantic.shape[2] - frames + 1, (count,), generator=generator)
        positions = starts[:, None] + torch.arange(frames)

        def crop(values: Tensor) -> Tensor:
            """[clip, level, frame] -> [batch, level, frame]."""
            index = positions[:, None].expand(-1, values.shape[1], -1)
            return values[rows].long().gather(2, index)

        conditions = self._conditions(corpus, rows, positions, generator)
        if self.words is not None:
            texts = [self._caption(corpus.captions[row], generator) for row in rows.tolist()]
            text, lengths = self.words.read(texts)
            conditions = dataclasses.replace(conditions, text=text_condition(text, lengths))
        if s.stage == "semantic":
            grid = crop(corpus.semantic)
        else:
            grid = crop(corpus.acoustic)[:, : s.model.levels]
            if s.model.conditions.source_levels:
                source = crop(corpus.semantic)[:, : s.model.conditions.source_levels]
                source = source if drops is None else self._damaged(source, generator)
                conditions = dataclasses.replace(conditions, source=source)
        if drops is not None:
            conditions = drop(conditions, drops, generator)
        return grid.to(s.device), conditions.to(s.device)

    @staticmethod
    def _caption(captions: tuple[str, ...], generator: torch.Generator) -> str:
        """One of a clip's captions at random; the empty string if it has none."""
        pick = int(torch.randint(max(len(captions), 1), (), generator=generator))
        return captions[pick] if captions else ""

    def _damaged(self, source: Tensor, generator: torch.Generator) -> Tensor:
        """Source tokens with some replaced by random ones."""
        s = self.settings
        if not s.source_damage:
            return source
        replaced = torch.rand(source.shape, generator=generator) < s.source_damage
        size = s.model.conditions.source_vocabulary
        noise = torch.randint(size, source.shape, generator=generator)
        return torch.where(replaced, noise, source)

    def _conditions(
        self, corpus: TokenCorpus, rows: Tensor, positions: Tensor, generator: torch.Generator
    ) -> Conditioning:
        count = len(rows)
        windows, depths = corpus.style.shape[1], corpus.style.shape[2]
        window = torch.randint(windows, (count,), generator=generator)
        depth = torch.randint(depths, (count,), generator=generator)
        attributes = corpus.attributes[rows, window]
        sizes = torch.tensor([size for _, size in ATTRIBUTE_SIZES])
        rhythm = corpus.rhythm[rows].gather(1, positions[..., None].expand(-1, -1, 2)).float()
        style, families = corpus.style[rows, window, depth].float(), corpus.families[rows, window]
        melody = corpus.melody[rows].long().gather(1, positions)
        # Either both phases are known or neither is.
        known = ~rhythm.isnan().any(-1, keepdim=True)
        return Conditioning(
            batch=count,
            length=positions.shape[1],
            style=Condition.full(style),
            attributes=Condition(values=attributes, present=attributes < sizes),
            families=Condition(values=families, present=(families >= 0).all(dim=1)),
            rhythm=Condition(values=rhythm.nan_to_num(), present=known.expand(-1, -1, 2)),
            melody=Condition(values=melody, present=melody < MELODY_SIZE),
        )

    def _loss(
        self, grid: Tensor, conditions: Conditioning, dropout: float, generator: torch.Generator
    ) -> tuple[Tensor, list[float]]:
        """(mean loss per token, loss of each level)."""
        s = self.settings
        with autocast(s.device):
            if s.model.causal:
                logits = self.model(grid, conditions, dropout)
                targets = grid[:, s.model.first_sampled_level :]
                each = [
                    F.cross_entropy(logits[:, i].flatten(0, 1).float(), targets[:, i].flatten())
                    for i in range(targets.shape[1])
                ]
                return torch.stack(each).mean(), [float(e.detach()) for e in each]
            span = s.model.levels - s.model.first_sampled_level
            level = s.model.first_sampled_level + int(torch.randint(span, (), generator=generator))
            logits = self.model.fill(grid, level, conditions, dropout)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), grid[:, level].flatten())
            return loss, [float(loss.detach())]

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Losses of one batch of crops."""
        s = self.settings
        drops, count, frames = s.drop, s.batch, s.crop_frames
        if number >= s.short_crop_from * s.loop.updates and s.model.causal:
            frames = min(s.short_crop_frames, s.crop_frames)
            drops, count = s.short_crop_drop, s.batch * (s.crop_frames // frames)
        grid, conditions = self.batch(self.train, generator, count, drops, frames)
        loss, each = self._loss(grid, conditions, s.dropout, generator)
        figures = {"nats": float(loss.detach())}
        if len(each) > 1:
            figures |= {f"nats_{i + 1}": value for i, value in enumerate(each)}
        return {s.stage: loss}, figures

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Held-out loss with all trained conditions but melody, and without text, style, attributes
        and families."""
        assert isinstance(averaged, TokenModel)
        s = self.settings
        rounds, conditional, unconditional = 4, [], []
        for number in range(rounds):
            generator = generator_of(s.loop.seed, number, "held")
            grid, conditions = self.batch(self.held, generator, s.batch, None, s.crop_frames)
            never = dataclasses.replace(s.drop.certain(), melody=1.0)
            conditions = drop(conditions.to("cpu"), never, generator).to(s.device)
            level = generator_of(s.loop.seed, number, "level")
            conditional.append(self._loss(grid, conditions, 0.0, level)[0].item())
            level = generator_of(s.loop.seed, number, "level")
            loss, _ = self._loss(grid, conditions.without_words(), 0.0, level)
            unconditional.append(loss.item())
        return {
            "nats": float(np.mean(conditional)),
            "nats_without_words": float(np.mean(unconditional)),
        }


def stage_settings(stage: str, **changes: Any) -> TokenModelSettings:
    """Settings of a shipped stage's network.

    Args:
        stage: one of `STAGES`.
        **changes: overrides fields of `TokenModelSettings` (width, layers, levels ...).

    Raises:
        MelismaError: for an unknown stage.
    """
    source = ConditioningSettings(source_levels=2)
    shapes: dict[str, TokenModelSettings] = {
        "semantic": TokenModelSettings(levels=2),
        "coarse": TokenModelSettings(levels=4, window_frames=200, conditions=source),
        "fine": TokenModelSettings(
            levels=8,
            first_sampled_level=4,
            causal=False,
            layers=4,
            window_frames=100,
            conditions=source,
        ),
    }
    if stage not in shapes:
        raise MelismaError(f'no stage "{stage}": known are {", ".join(STAGES)}')
    return dataclasses.replace(shapes[stage], **changes)


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Codebook vectors of the tokenizers."""

    acoustic: Tensor
    """Of the codec, [level, vocabulary, width]."""
    semantic: Tensor
    """Of the semantic tokenizer, [level, vocabulary, width]."""


def train_stage(
    settings: StageTraining,
    train: TokenCorpus,
    held: TokenCorpus,
    folder: Path,
    start: Mapping[str, Tensor] | None = None,
    codes: Codes | None = None,
    words: CaptionEncoder | None = None,
) -> None:
    """Runs or resumes the training of one stage.

    Args:
        settings: of the training.
        train: training clips.
        held: held-out clips.
        folder: of the training state, logs and weights.
        start: weights to start from, of a stage of the same tokens.
        codes: codebooks to initialize the embeddings from without `start` (see
            `melisma.lm.embedding_init`); None: random initialization.
        words: encodes the captions for a model that is conditioned on text.
    """
    task = StageTask(settings, train, held, words)
    if start is None and codes is not None and not (folder / STATE_FILE).is_file():
        own = codes.semantic if settings.stage == "semantic" else codes.acoustic
        generator = generator_of(settings.loop.seed, 0, "codes")
        start_from_codes(task.model, own, codes.semantic, generator)
    run = Run(task, settings.loop, folder)
    if not run.resume() and start is not None:
        run.start_from(start)
    run.run()
    if settings.short_crop_updates:
        _train_short_crops(settings, train, held, folder, words)


def _train_short_crops(
    settings: StageTraining,
    train: TokenCorpus,
    held: TokenCorpus,
    folder: Path,
    words: CaptionEncoder | None,
) -> None:
    """Continues from the weights in `folder`, which are replaced, with short crops only."""
    loop = dataclasses.replace(
        settings.loop,
        updates=settings.short_crop_updates,
        learning_rate=settings.short_crop_rate,
        warmup_updates=min(settings.loop.warmup_updates, 30),
        seed=settings.loop.seed + 1,
    )
    settings = dataclasses.replace(settings, loop=loop, short_crop_from=0.0, short_crop_updates=0)
    weights = folder / "weights.safetensors"
    before = read_checkpoint(weights).tensors
    short = folder / "short_crops"
    former = folder / "opening"  # name of the folder in earlier versions
    short = former if former.is_dir() and not short.is_dir() else short
    train_stage(settings, train, held, short, before, words=words)
    write_checkpoint(weights, read_checkpoint(short / "weights.safetensors"))
