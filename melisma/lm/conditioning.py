"""Condition slots of the token language model: what a piece is told before and while it is drawn.

Every slot has an absent-token and is dropped at random in training, so that any part may be left
out at inference, guidance has something to compare with, and a later conditioner retrains one
thing.

Slots for the whole piece: *style* (the quantised joint vector, embedded through its centroid,
any number of its levels from 0 on), *attributes* (tempo, tonality, metre, lead, style), *families*
(which instruments are named). Slots per frame: *melody* (pitch class), *rhythm* (place in
the beat and in the bar), *source* (tokens of an earlier stage). Slots of MusicGen (2306.05284,
sections 2.3 and 2.4): *text* (the states of a text encoder, attended to, or put before the piece)
and
*chroma* (one-hot pitch classes of a tune, put before the piece).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.transformer import Text

ATTRIBUTE_SIZES: tuple[tuple[str, int], ...] = (
    ("tempo", 48),
    ("tonality", 24),
    ("metre", 4),
    ("lead", 17),
    ("style", 18),
    ("density", 3),
    ("dynamics", 3),
    ("register", 3),
)
"""Attribute slots and their values; the last entry of each table is the absent-token."""

FAMILY_COUNT = 17
CHROMA_SIZE = 12
"""Pitch classes from C on."""
MELODY_SIZE = 13
"""No note, twelve pitch classes; one more entry of the table is the absent-token."""
RHYTHM_HARMONICS = 4
"""Sines and cosines of the beat and bar phase, and so many multiples of it."""


@dataclass(frozen=True, kw_only=True)
class ConditioningSettings:
    """Sizes of the slots."""

    style_width: int = 128
    """Width of the joint vector."""
    source_levels: int = 0
    """Levels of the source tokens; 0: the stage has no source."""
    source_vocabulary: int = 1024
    """Entries of each source level."""
    source_before: int = 1
    """Frames of the source before the present one that are looked at."""
    source_ahead: int = 4
    """Frames of the source after the present one that are looked at."""
    slots: bool = True
    """Whether there are style, attributes, families, melody and rhythm."""
    text_width: int = 0
    """Width of a text encoder's states; 0: no text."""
    text_before: bool = False
    """Whether the text is put before the piece; else every block attends to it."""
    chroma_frames: int = 0
    """Frames of chroma before the piece, a shorter tune repeated; 0: no chroma."""


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """A batch of conditions. Absent: zero style, attribute = its table's size, nan rhythm,
    melody = `MELODY_SIZE`, families all -1."""

    style: Tensor
    """Joint vector rebuilt from its quantised levels, [batch, width]; zeros where absent."""
    attributes: Tensor
    """int64 [batch, attribute] in the order of `ATTRIBUTE_SIZES`."""
    families: Tensor
    """float32 [batch, family], 1 named, 0 not, -1 nothing known."""
    rhythm: Tensor
    """float32 [batch, frame, 2]: beat and bar phase in [0, 1), nan where unknown."""
    melody: Tensor
    """int64 [batch, frame]: 0 none, pitch class + 1, or `MELODY_SIZE` where absent."""
    source: Tensor | None = None
    """int64 [batch, level, frame] tokens of the earlier stage."""
    text: Tensor | None = None
    """float32 [batch, token, width] states of a text encoder."""
    text_lengths: Tensor | None = None
    """int64 [batch]: tokens of each text; 0 where it is absent."""
    chroma: Tensor | None = None
    """float32 [batch, chroma frame, 12], one-hot; absent where its first entry is -1."""

    def __len__(self) -> int:
        return len(self.style)

    @classmethod
    def absent(cls, batch: int, frames: int, style_width: int = 128) -> Conditioning:
        """Nothing is told."""
        sizes = torch.tensor([size for _, size in ATTRIBUTE_SIZES])
        return cls(
            style=torch.zeros(batch, style_width),
            attributes=sizes.expand(batch, -1).clone(),
            families=torch.full((batch, FAMILY_COUNT), -1.0),
            rhythm=torch.full((batch, frames, 2), math.nan),
            melody=torch.full((batch, frames), MELODY_SIZE),
        )

    def without_words(self) -> Conditioning:
        """Style, attributes, families and text absent; rhythm, melody, chroma and source stay."""
        gone = Conditioning.absent(len(self), self.rhythm.shape[1], self.style.shape[1])
        lengths = self.text_lengths
        return replace(
            self,
            text_lengths=None if lengths is None else torch.zeros_like(lengths),
            style=gone.style.to(self.style.device),
            attributes=gone.attributes.to(self.style.device),
            families=gone.families.to(self.style.device),
        )

    def unconditional(self) -> Conditioning:
        """Only the source stays: what guidance moves away from.

        With the rhythm kept here, guidance moved away from it: stated tempi came out in 42 % of
        pieces, without it in 86 %. Chroma goes with the words, as MusicGen learned it.
        """
        chroma = None if self.chroma is None else torch.full_like(self.chroma, -1.0)
        rhythm = torch.full_like(self.rhythm, math.nan)
        melody = torch.full_like(self.melody, MELODY_SIZE)
        return replace(self.without_words(), rhythm=rhythm, melody=melody, chroma=chroma)

    def rows(self, rows: list[int]) -> Conditioning:
        """The same for some pieces of the batch."""
        chosen = {
            one.name: value[rows]
            for one in fields(self)
            if (value := getattr(self, one.name)) is not None
        }
        return replace(self, **chosen)

    def frames(self, start: int, stop: int) -> Conditioning:
        """The same for a stretch of frames."""
        return replace(
            self,
            rhythm=self.rhythm[:, start:stop],
            melody=self.melody[:, start:stop],
            source=None if self.source is None else self.source[:, :, start:stop],
        )

    def to(self, device: str) -> Conditioning:
        """The same on a device."""
        moved = {
            one.name: value.to(device)
            for one in fields(self)
            if (value := getattr(self, one.name)) is not None
        }
        return replace(self, **moved)

    def joined(self, other: Conditioning) -> Conditioning:
        """Both batches one after the other."""
        merged = {}
        for one in fields(self):
            first, second = getattr(self, one.name), getattr(other, one.name)
            merged[one.name] = None if first is None else torch.cat([first, second])
        return Conditioning(**merged)


@dataclass(frozen=True, kw_only=True)
class DropSettings:
    """How often each slot is dropped in training."""

    everything: float = 0.1
    """Style, attributes and families at once (what guidance compares with)."""
    style: float = 0.3
    attribute: float = 0.4
    """Each attribute by itself."""
    families: float = 0.4
    rhythm: float = 0.15
    melody: float = 0.8
    text: float = 0.1
    chroma: float = 0.5
    """As in MusicGen's melody models."""
    style_noise: float = 0.15
    """Standard deviation of the noise on the style vector (times its norm over sqrt(width)): the
    measured distance between what the music tower hears and what the text tower says."""

    def certain(self) -> DropSettings:
        """What is always dropped still is, and nothing else; without noise."""
        shares = {
            one.name: float(getattr(self, one.name) >= 1)
            for one in fields(self)
            if one.name != "style_noise"
        }
        return DropSettings(**shares, style_noise=0.0)


def drop(
    conditions: Conditioning, settings: DropSettings, generator: torch.Generator
) -> Conditioning:
    """Drops slots at random, for each piece of the batch by itself."""
    batch, frames = len(conditions), conditions.rhythm.shape[1]
    gone = Conditioning.absent(batch, frames, conditions.style.shape[1])

    def chosen(share: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) < share

    everything = chosen(settings.everything, batch)
    noise = torch.randn(conditions.style.shape, generator=generator) * settings.style_noise
    noisy = conditions.style + noise * conditions.style.norm(dim=1, keepdim=True) / math.sqrt(
        conditions.style.shape[1]
    )
    no_style = (everything | chosen(settings.style, batch))[:, None]
    no_attribute = everything[:, None] | chosen(settings.attribute, *conditions.attributes.shape)
    no_families = (everything | chosen(settings.families, batch))[:, None]
    no_rhythm = chosen(settings.rhythm, batch)[:, None, None]
    no_melody = chosen(settings.melody, batch)[:, None]
    lengths, chroma = conditions.text_lengths, conditions.chroma
    if lengths is not None:
        lengths = torch.where(everything | chosen(settings.text, batch), 0, lengths)
    if chroma is not None:
        chroma = torch.where(chosen(settings.chroma, batch)[:, None, None], -1.0, chroma)
    return replace(
        conditions,
        text_lengths=lengths,
        chroma=chroma,
        style=torch.where(no_style, gone.style, noisy),
        attributes=torch.where(no_attribute, gone.attributes, conditions.attributes),
        families=torch.where(no_families, gone.families, conditions.families),
        rhythm=torch.where(no_rhythm, gone.rhythm, conditions.rhythm),
        melody=torch.where(no_melody, gone.melody, conditions.melody),
    )


@dataclass(frozen=True, kw_only=True)
class TrunkInputs:
    """Conditions as the trunk takes them."""

    whole: Tensor | None
    """[batch, 1, width]: scales and shifts every block."""
    frames: Tensor | None
    """[batch, frame, width]: added at the frame that is to be drawn."""
    text: Text | None = None
    """What every block attends to."""
    before: Tensor | None = None
    """[batch, place, width]: stands before the piece."""


class Conditioner(nn.Module):
    """Conditions -> `Told`."""

    def __init__(self, settings: ConditioningSettings, width: int) -> None:
        super().__init__()
        self.settings = settings
        if settings.slots:
            self._add_slots(settings, width)
        if settings.source_levels:
            self.source = nn.ModuleList(
                nn.Embedding(settings.source_vocabulary, width)
                for _ in range(settings.source_levels)
            )
            reach = settings.source_before + 1 + settings.source_ahead
            self.look = nn.Conv1d(width, width, reach, groups=max(1, width // 32))
            self.source_out = nn.Linear(width, width)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5)
        if settings.text_width:
            same = settings.text_width == width
            self.text = nn.Identity() if same else nn.Linear(settings.text_width, width)
            if settings.slots:
                # The mean of the text beside the other slots: a short way in.
                self.spoken = nn.Linear(settings.text_width, width)
        if settings.chroma_frames:
            self.chroma = nn.Linear(CHROMA_SIZE, width)

    def _add_slots(self, settings: ConditioningSettings, width: int) -> None:
        self.style = nn.Linear(settings.style_width, width)
        self.attributes = nn.ModuleList(
            nn.Embedding(size + 1, width) for _, size in ATTRIBUTE_SIZES
        )
        self.families = nn.Linear(2 * FAMILY_COUNT, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        # What holds for the whole piece is also added at every frame: a short way in.
        self.spread = nn.Linear(width, width)
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)
        self.melody = nn.Embedding(MELODY_SIZE + 1, width)
        self.rhythm = nn.Linear(4 * RHYTHM_HARMONICS + 2, width)

    def forward(self, conditions: Conditioning) -> TrunkInputs:
        """Reads every slot that there is."""
        whole = frames = None
        if self.settings.slots:
            whole = self._whole(conditions)
            frames = self.melody(conditions.melody) + self.rhythm(
                rhythm_features(conditions.rhythm)
            )
            frames = frames + self.spread(whole)
        if conditions.source is not None:
            source = self._source(conditions.source)
            frames = source if frames is None else frames + source
        text = self._text(conditions)
        before = [] if self.settings.chroma_frames == 0 else [self._chroma(conditions)]
        if text is not None and self.settings.text_before:
            before.append(text.states)
            text = None
        return TrunkInputs(
            whole=whole, frames=frames, text=text, before=torch.cat(before, 1) if before else None
        )

    @torch.no_grad()
    def ignore_never_trained(self, drops: DropSettings) -> None:
        """Makes whatever is told in slots that training always dropped act as if it were absent:
        what they begin with, nobody has taught. For style, attributes, families, rhythm, melody."""
        if drops.style >= 1:
            self.style.weight.zero_()
        for table in self.attributes if drops.attribute >= 1 else ():
            assert isinstance(table, nn.Embedding)
            table.weight[:] = table.weight[-1:].clone()
        if drops.families >= 1:
            weight = self.families.weight
            self.families.bias.add_(weight[:, weight.shape[1] // 2 :].sum(dim=1))
            weight.zero_()
        if drops.rhythm >= 1:
            # All features of an unknown rhythm are 0, so the bias alone is what "absent" says.
            self.rhythm.weight.zero_()
        if drops.melody >= 1:
            self.melody.weight[:] = self.melody.weight[-1:].clone()

    def _whole(self, conditions: Conditioning) -> Tensor:
        rows = [self.style(conditions.style * conditions.style.shape[1] ** 0.5)]
        rows += [table(conditions.attributes[:, i]) for i, table in enumerate(self.attributes)]
        named = (conditions.families > 0).float()
        absent = (conditions.families < 0).float()
        rows.append(self.families(torch.cat([named, absent], dim=1)))
        if self.settings.text_width and conditions.text is not None:
            assert conditions.text_lengths is not None
            text = Text(states=conditions.text, lengths=conditions.text_lengths)
            told = (text.states * text.present[..., None]).sum(dim=1)
            some = text.lengths[:, None]
            rows.append(self.spoken(told / some.clamp(min=1)) * (some > 0))
        return self.mix(torch.stack(rows).sum(dim=0))[:, None]

    def _text(self, conditions: Conditioning) -> Text | None:
        """States in the trunk's width; zeros beyond each text's end."""
        if not self.settings.text_width:
            return None
        if conditions.text is None or conditions.text_lengths is None:
            # One place, of which none counts.
            states = torch.zeros(len(conditions), 1, self.settings.text_width)
            lengths = torch.zeros(len(conditions), dtype=torch.long)
            conditions = replace(conditions, text=states, text_lengths=lengths)
            conditions = conditions.to(str(conditions.style.device))
        assert conditions.text is not None
        assert conditions.text_lengths is not None
        text = Text(states=self.text(conditions.text), lengths=conditions.text_lengths)
        return replace(text, states=text.states * text.present[..., None])

    def _chroma(self, conditions: Conditioning) -> Tensor:
        """[batch, chroma frame, width]: a tune repeated, or cut, to as many frames as were learned;
        an absent one is the first pitch class throughout (as MusicGen learned it)."""
        count, chroma = self.settings.chroma_frames, conditions.chroma
        if chroma is None:
            chroma = torch.full((len(conditions), 1, CHROMA_SIZE), -1.0)
            chroma = chroma.to(conditions.style.device)
        silent = F.one_hot(torch.zeros((), dtype=torch.long), CHROMA_SIZE).to(chroma)
        chroma = torch.where(chroma[..., :1] < 0, silent, chroma)
        repeats = -(-count // chroma.shape[1])
        return self.chroma(chroma).repeat(1, repeats, 1)[:, :count]

    def _source(self, source: Tensor) -> Tensor:
        """Tokens [batch, level, frame] -> [batch, frame, width], hearing the frames around."""
        hidden = torch.stack(
            [table(source[:, level]) for level, table in enumerate(self.source)]
        ).sum(dim=0)
        s = self.settings
        padded = F.pad(hidden.transpose(1, 2), (s.source_before, s.source_ahead), mode="replicate")
        return self.source_out(hidden + F.gelu(self.look(padded)).transpose(1, 2))


def rhythm_features(rhythm: Tensor) -> Tensor:
    """Phases [batch, frame, 2] -> sines and cosines of multiples, and whether known."""
    known = ~rhythm.isnan()
    angles = rhythm.nan_to_num()[..., None] * (
        2 * math.pi * torch.arange(1, RHYTHM_HARMONICS + 1, device=rhythm.device)
    )
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1) * known[..., None]
    return torch.cat([waves.flatten(-2), known.float()], dim=-1)
