"""Conditioning of the token language models: condition slots, their dropout, their embedding.

Every slot may be absent: absence is a mask (`Condition.present`), is embedded, and is chosen at
random in training, so that any part may be left out at inference, guidance has something to compare
with, and a later conditioner retrains one thing.

Slots for the whole piece: *style* (the quantised joint vector, embedded through its centroid, any
number of its levels from 0 on), *attributes* (tempo, key, metre, lead, style), *families* (which
instruments are named). Slots per frame: *melody* (pitch class), *rhythm* (phase in the beat and in
the bar), *source* (tokens of an earlier stage). Slots of MusicGen (2306.05284, sections 2.3 and
2.4): *text* (the states of a text encoder, attended to, or put before the piece) and *chroma*
(one-hot pitch classes of a melody, put before the piece).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.transformer import Text
from melisma.values.attributes import ATTRIBUTE_CLASSES, CONDITION_ATTRIBUTES, FAMILIES

ATTRIBUTE_SIZES: tuple[tuple[str, int], ...] = tuple(
    (name, len(ATTRIBUTE_CLASSES[name])) for name in CONDITION_ATTRIBUTES
)
"""Attribute slots and their values; the last entry of each table is the absent-token."""

FAMILY_COUNT = len(FAMILIES)
CHROMA_SIZE = 12
"""Pitch classes from C on."""
MELODY_SIZE = 13
"""No note, twelve pitch classes; one more entry of the table is the absent-token."""
RHYTHM_HARMONICS = 4
"""Multiples of the beat and bar phase whose sines and cosines are features."""


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
    """Frames of the source before the present one in the receptive field."""
    source_ahead: int = 4
    """Frames of the source after the present one in the receptive field."""
    slots: bool = True
    """Whether there are style, attributes, families, melody and rhythm."""
    text_width: int = 0
    """Width of a text encoder's states; 0: no text."""
    text_before: bool = False
    """Whether the text is put before the piece; else every block attends to it."""
    chroma_frames: int = 0
    """Frames of chroma before the piece, a shorter melody repeated; 0: no chroma."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Values of one slot, and where they are present. Values that are absent mean nothing."""

    values: Tensor
    """[batch, ...]."""
    present: Tensor
    """bool, of the first dimensions of `values`."""

    @classmethod
    def full(cls, values: Tensor, dims: int = 1) -> Condition:
        """Values that are all present; `present` has their first `dims` dimensions."""
        shape = values.shape[:dims]
        return cls(values=values, present=torch.ones(shape, dtype=torch.bool, device=values.device))

    def where(self, kept: Tensor) -> Condition:
        """Present only where `kept`, bool, broadcast to `present`, is true, too."""
        return replace(self, present=self.present & kept)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """The same change to values and presence: a selection, a slice, another device."""
        return Condition(values=change(self.values), present=change(self.present))

    def absent(self) -> Condition:
        """The same values, present nowhere."""
        return replace(self, present=torch.zeros_like(self.present))


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What a batch of pieces is conditioned on. A slot that is None is absent in all of them."""

    batch: int
    """Number of pieces."""
    length: int
    """Frames of the slots per frame."""
    style: Condition | None = None
    """Joint vector rebuilt from its quantised levels, float32 [batch, width]."""
    attributes: Condition | None = None
    """Classes int64 [batch, attribute] in the order of `ATTRIBUTE_SIZES`, each present or not."""
    families: Condition | None = None
    """float32 [batch, family]: 1 named, 0 not."""
    rhythm: Condition | None = None
    """float32 [batch, frame, 2]: beat and bar phase in [0, 1), present [batch, frame, 2]."""
    melody: Condition | None = None
    """int64 [batch, frame]: 0 no note, else pitch class + 1."""
    source: Tensor | None = None
    """int64 [batch, level, frame] tokens of the earlier stage."""
    text: Condition | None = None
    """States of a text encoder, float32 [batch, token, width], present [batch, token]: the first
    tokens of each text."""
    chroma: Condition | None = None
    """One-hot pitch classes, float32 [batch, chroma frame, 12]."""

    def __len__(self) -> int:
        return self.batch

    @classmethod
    def absent(cls, batch: int, frames: int) -> Conditioning:
        """Nothing is present."""
        return cls(batch=batch, length=frames)

    @property
    def device(self) -> torch.device:
        """Where the slots are; the processor where all are None."""
        for slot in self.slots().values():
            return slot.values.device
        return torch.device("cpu") if self.source is None else self.source.device

    def slots(self) -> dict[str, Condition]:
        """The slots that are not None, by name; `source` has no mask and is not among them."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: slot for name, slot in found.items() if isinstance(slot, Condition)}

    def without_words(self) -> Conditioning:
        """Style, attributes, families and text absent; rhythm, melody, chroma and source stay."""
        return self._without("style", "attributes", "families", "text")

    def unconditional(self) -> Conditioning:
        """Only the source stays: the branch that guidance moves away from.

        With the rhythm present here, guidance moved away from it: stated tempi came out in 42 % of
        pieces, without it in 86 %. Chroma is absent with the words, as MusicGen learned it.
        """
        return self._without(*self.slots())

    def _without(self, *names: str) -> Conditioning:
        gone = {name: slot.absent() for name, slot in self.slots().items() if name in names}
        return replace(self, **gone)

    def rows(self, rows: list[int]) -> Conditioning:
        """Some pieces of the batch."""
        chosen = {name: slot.mapped(lambda t: t[rows]) for name, slot in self.slots().items()}
        source = None if self.source is None else self.source[rows]
        return replace(self, batch=len(rows), source=source, **chosen)

    def frames(self, start: int, stop: int) -> Conditioning:
        """A stretch of frames."""
        cut = {
            name: slot.mapped(lambda t: t[:, start:stop])
            for name, slot in self.slots().items()
            if name in ("rhythm", "melody")
        }
        source = None if self.source is None else self.source[:, :, start:stop]
        return replace(self, length=stop - start, source=source, **cut)

    def to(self, device: str) -> Conditioning:
        """The same on a device."""
        moved = {name: slot.mapped(lambda t: t.to(device)) for name, slot in self.slots().items()}
        source = None if self.source is None else self.source.to(device)
        return replace(self, source=source, **moved)

    def joined(self, other: Conditioning) -> Conditioning:
        """Both batches one after the other; a slot of one alone is absent in the other."""
        mine, theirs = self.slots(), other.slots()
        merged: dict[str, Condition] = {}
        for name in {**mine, **theirs}:
            first = mine.get(name) or _like(theirs[name], self.batch)
            second = theirs.get(name) or _like(mine[name], other.batch)
            merged[name] = Condition(
                values=torch.cat([first.values, second.values]),
                present=torch.cat([first.present, second.present]),
            )
        source = None
        if self.source is not None and other.source is not None:
            source = torch.cat([self.source, other.source])
        return replace(self, batch=self.batch + other.batch, source=source, **merged)


def text_condition(states: Tensor, lengths: Tensor) -> Condition:
    """The text slot.

    Args:
        states: float32 [batch, token, width].
        lengths: int64 [batch], tokens of each text.
    """
    tokens = torch.arange(states.shape[1], device=states.device, dtype=torch.long)
    return Condition(values=states, present=tokens < lengths.to(states.device)[:, None])


def _like(slot: Condition, batch: int) -> Condition:
    """An absent slot of another batch."""
    return slot.mapped(lambda t: torch.zeros_like(t[:1]).expand(batch, *t.shape[1:]))


@dataclass(frozen=True, kw_only=True)
class DropSettings:
    """How often each slot is dropped in training."""

    everything: float = 0.1
    """Style, attributes, families and text at once (what guidance compares with)."""
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
    measured distance between the embeddings of the music tower and of the text tower."""

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
    """Drops slots at random, for each piece of the batch by itself.

    Args:
        conditions: With all slots of our own models present or absent.
        settings: How often each slot is dropped.
        generator: On the processor.
    """
    batch = len(conditions)

    def kept(share: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu") >= share

    style, attributes = conditions.style, conditions.attributes
    families, rhythm, melody = conditions.families, conditions.rhythm, conditions.melody
    some = kept(settings.everything, batch)
    if style is not None:
        vectors = style.values
        noise = torch.randn(vectors.shape, generator=generator, dtype=torch.float32, device="cpu")
        noise = noise * settings.style_noise
        noise = noise * vectors.norm(dim=1, keepdim=True) / math.sqrt(vectors.shape[1])
        style = replace(style, values=vectors + noise)
        style = style.where(some & kept(settings.style, batch))
    if attributes is not None:
        each = kept(settings.attribute, *attributes.values.shape)
        attributes = attributes.where(some[:, None] & each)
    if families is not None:
        families = families.where(some & kept(settings.families, batch))
    if rhythm is not None:
        rhythm = rhythm.where(kept(settings.rhythm, batch)[:, None, None])
    if melody is not None:
        melody = melody.where(kept(settings.melody, batch)[:, None])
    text, chroma = conditions.text, conditions.chroma
    if text is not None:
        text = text.where((some & kept(settings.text, batch))[:, None])
    if chroma is not None:
        chroma = chroma.where(kept(settings.chroma, batch))
    return replace(
        conditions,
        style=style,
        attributes=attributes,
        families=families,
        rhythm=rhythm,
        melody=melody,
        text=text,
        chroma=chroma,
    )


@dataclass(frozen=True, kw_only=True)
class TrunkInputs:
    """Conditioning as the trunk takes it."""

    whole: Tensor | None
    """[batch, 1, width]: scales and shifts every block."""
    frames: Tensor | None
    """[batch, frame, width]: added at the frame that is to be sampled."""
    text: Text | None = None
    """What every block attends to."""
    before: Tensor | None = None
    """[batch, position, width]: stands before the piece."""


class Conditioner(nn.Module):
    """`Conditioning` -> `TrunkInputs`."""

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
        """Reads every slot; an absent one has an embedding of its own."""
        whole = frames = None
        if self.settings.slots:
            whole = self._whole(conditions)
            frames = self._melody(conditions) + self._rhythm(conditions)
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

    def stretch(self, conditions: Conditioning, start: int, stop: int) -> TrunkInputs:
        """As `forward`, with `frames` of a stretch of the piece alone: memory then does not grow
        with its duration.

        Args:
            conditions: Of the whole piece.
            start: First frame.
            stop: The frame after the last.
        """
        settings = self.settings
        first = max(start - settings.source_before, 0)
        last = min(stop + settings.source_ahead, conditions.length)
        inputs = self(conditions.frames(first, last))
        if inputs.frames is None:
            return inputs
        return replace(inputs, frames=inputs.frames[:, start - first : stop - first])

    @torch.no_grad()
    def ignore_never_trained(self, drops: DropSettings) -> None:
        """Makes slots that training always dropped act as if they were absent: their weights are
        still those of the initialization. For style, attributes, families, rhythm, melody."""
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
            # All features of an unknown rhythm are 0, so the bias alone embeds its absence.
            self.rhythm.weight.zero_()
        if drops.melody >= 1:
            self.melody.weight[:] = self.melody.weight[-1:].clone()

    def _whole(self, conditions: Conditioning) -> Tensor:
        """[batch, 1, width] from style, attributes, families and the mean of the text."""
        batch, device = len(conditions), conditions.device
        width = self.settings.style_width
        style = _zeros(conditions, width)
        if conditions.style is not None:
            style = torch.where(conditions.style.present[:, None], conditions.style.values, style)
        rows = [self.style(style * width**0.5)]
        sizes = torch.tensor([size for _, size in ATTRIBUTE_SIZES], device=device, dtype=torch.long)
        classes = sizes.expand(batch, -1)
        if conditions.attributes is not None:
            found = conditions.attributes
            classes = torch.where(found.present, found.values, classes)
        rows += [table(classes[:, i]) for i, table in enumerate(self.attributes)]
        named = _zeros(conditions, FAMILY_COUNT)
        unknown = torch.ones_like(named)
        if conditions.families is not None:
            present = conditions.families.present[:, None]
            named = ((conditions.families.values > 0) & present).float()
            unknown = (~present).float().expand(batch, FAMILY_COUNT)
        rows.append(self.families(torch.cat([named, unknown], dim=1)))
        if self.settings.text_width and conditions.text is not None:
            present = conditions.text.present
            total = (conditions.text.values * present[..., None]).sum(dim=1)
            count = present.sum(dim=1)[:, None]
            rows.append(self.spoken(total / count.clamp(min=1)) * (count > 0))
        return self.mix(torch.stack(rows).sum(dim=0))[:, None]

    def _melody(self, conditions: Conditioning) -> Tensor:
        """[batch, frame, width]."""
        shape = (len(conditions), conditions.length)
        notes = torch.full(shape, MELODY_SIZE, device=conditions.device, dtype=torch.long)
        if conditions.melody is not None:
            notes = torch.where(conditions.melody.present, conditions.melody.values, notes)
        return self.melody(notes)

    def _rhythm(self, conditions: Conditioning) -> Tensor:
        """[batch, frame, width]."""
        rhythm = conditions.rhythm
        if rhythm is None:
            rhythm = Condition.full(_zeros(conditions, conditions.length, 2), 3).absent()
        return self.rhythm(rhythm_features(rhythm))

    def _text(self, conditions: Conditioning) -> Text | None:
        """States in the trunk's width; zeros beyond the end of each text."""
        if not self.settings.text_width:
            return None
        text = conditions.text
        if text is None:  # one position, and none that counts
            text = Condition.full(_zeros(conditions, 1, self.settings.text_width), 2).absent()
        lengths = text.present.sum(dim=1)
        return Text(states=self.text(text.values) * text.present[..., None], lengths=lengths)

    def _chroma(self, conditions: Conditioning) -> Tensor:
        """[batch, chroma frame, width]: a melody repeated, or cut, to as many frames as were
        learned; an absent one is the first pitch class throughout (as MusicGen learned it)."""
        count, chroma = self.settings.chroma_frames, conditions.chroma
        if chroma is None:
            empty = _zeros(conditions, 1, CHROMA_SIZE)
            chroma = Condition.full(empty).absent()
        silent = F.one_hot(torch.zeros((), dtype=torch.long, device="cpu"), CHROMA_SIZE).to(
            chroma.values
        )
        classes = torch.where(chroma.present[:, None, None], chroma.values, silent)
        repeats = -(-count // classes.shape[1])
        return self.chroma(classes).repeat(1, repeats, 1)[:, :count]

    def _source(self, source: Tensor) -> Tensor:
        """Tokens [batch, level, frame] -> [batch, frame, width], with the frames around each."""
        hidden = torch.stack(
            [table(source[:, level]) for level, table in enumerate(self.source)]
        ).sum(dim=0)
        s = self.settings
        padded = F.pad(hidden.transpose(1, 2), (s.source_before, s.source_ahead), mode="replicate")
        return self.source_out(hidden + F.gelu(self.look(padded)).transpose(1, 2))


def _zeros(conditions: Conditioning, *shape: int) -> Tensor:
    """float32 [batch, *shape], whatever torch's default type."""
    return torch.zeros(len(conditions), *shape, device=conditions.device, dtype=torch.float32)


def rhythm_features(rhythm: Condition) -> Tensor:
    """Sines and cosines of multiples of the phases, and whether they are present.

    Args:
        rhythm: Phases float32 [batch, frame, 2].

    Returns:
        float32 [batch, frame, 4 * `RHYTHM_HARMONICS` + 2]; zeros where absent.
    """
    phases = torch.where(rhythm.present, rhythm.values, 0.0)
    angles = phases[..., None] * (
        2
        * math.pi
        * torch.arange(1, RHYTHM_HARMONICS + 1, device=phases.device, dtype=torch.float32)
    )
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1) * rhythm.present[..., None]
    return torch.cat([waves.flatten(-2), rhythm.present.float()], dim=-1)
