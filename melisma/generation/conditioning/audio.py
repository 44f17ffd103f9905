"""Conditioning by audio: a melody to follow, a recording to continue.

The melody may be hummed, sung, whistled, played or a whole recording. No source separation is
applied first: separation made for songs removes the voice, which may be the melody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from melisma.melody import Tune, chroma_of, chroma_of_tune, extract_tune, melody_frames
from melisma.sound.resample import resample
from melisma.sound.stored import StoredSound
from melisma.tokenizers import AudioTokenizers
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from melisma.values.waveform import Waveform

SPARE_SECONDS = 2.5
"""After a recording this much more is generated than is wanted, so that new music can be fitted to
its beat, and a rest at its start be left out (`seam.py`)."""
SHORTEST_BEGINNING_SECONDS = 0.5
"""Least duration of a recording to continue (chosen)."""


@dataclass(frozen=True, kw_only=True)
class AudioConditions:
    """Audio that is given besides the words; `recording.py` finds the fields of a recording.

    Raises:
        MelismaError: `beginning` is shorter than `SHORTEST_BEGINNING_SECONDS`.
    """

    melody: Waveform | Tune | None = None
    """Audio, or a tune found before, whose melody the piece follows, from its start."""
    beginning: Waveform | None = None
    """Audio that the piece begins with; the new music follows its end."""
    before: StoredSound | None = None
    """What precedes the beginning in its recording, as far as it was read."""
    whole: bool = False
    """Whether the piece begins with all of the recording, `before` included."""
    gain_db: float = 0.0
    """Gain of the whole piece, below 0 where the recording exceeds full scale."""
    remarks: tuple[str, ...] = ()
    """Sentences about the recordings, for the person whose they are."""

    def __post_init__(self) -> None:
        if self.beginning is not None and self.beginning.seconds < SHORTEST_BEGINNING_SECONDS:
            raise MelismaError(
                f"{self.beginning.seconds:.2f} s are too short to continue: keep at least "
                f"{SHORTEST_BEGINNING_SECONDS} s"
            )

    @property
    def spare_seconds(self) -> float:
        """How much more is generated than is wanted."""
        return 0.0 if self.beginning is None else SPARE_SECONDS

    @property
    def kept_seconds(self) -> float:
        """How much of a recording precedes the new music in the piece."""
        if self.beginning is None:
            return 0.0
        before = self.before.seconds if self.before is not None and self.whole else 0.0
        return before + self.beginning.seconds


def melody_classes(tokenizers: AudioTokenizers, melody: Waveform | Tune, frames: int) -> Tensor:
    """A melody as the melody condition of our stages.

    A solo voice or instrument is tracked. In a mix the semantic encoder detects the lead better
    (72 % of frames correct, the tracker 57 %; of a hum 70 %, the tracker 94 %), and its predictions
    are what the stages were trained with.

    Args:
        tokenizers: The frozen tokenizers.
        melody: A recording, of any rate, or a tune found before.
        frames: Number of token frames.

    Returns:
        Melody classes int64 [frame]; frames beyond the recording have no note.

    Raises:
        MelismaError: The recording has no melody.
    """
    if isinstance(melody, Tune):
        return torch.from_numpy(melody_frames(melody, frames))
    waveform, seconds = melody, frames / FRAME_RATE_HZ
    try:
        return torch.from_numpy(melody_frames(extract_tune(waveform, seconds=seconds), frames))
    except MelismaError:
        extract_tune(waveform, seconds=seconds, accompanied=True)
    sound = resample(waveform, SAMPLE_RATE_HZ, 1).samples[:, : frames * SAMPLES_PER_FRAME]
    sound = np.pad(sound, ((0, 0), (0, -sound.shape[1] % SAMPLES_PER_FRAME)))
    classes = torch.from_numpy(tokenizers.encode_melody(torch.from_numpy(sound))[0]).long()
    return torch.nn.functional.pad(classes, (0, frames - len(classes)))


def melody_chroma(melody: Waveform | Tune, seconds: float) -> Tensor:
    """Chroma of a melody, as MusicGen's melody models are conditioned on it.

    Args:
        melody: A recording, of any rate, or a tune found before.
        seconds: Length of the chroma.

    Returns:
        float32 [1, chroma frame, 12]: of a solo voice the tracked notes, of a mix the strongest
        pitch classes of the spectrum.

    Raises:
        MelismaError: The recording has no melody.
    """
    if isinstance(melody, Tune):
        return torch.from_numpy(chroma_of_tune(melody, seconds))[None]
    waveform = melody
    try:
        extract_tune(waveform, seconds=seconds)
    except MelismaError:
        extract_tune(waveform, seconds=seconds, accompanied=True)
        return torch.from_numpy(chroma_of(waveform, seconds=seconds))[None]
    return torch.from_numpy(chroma_of(waveform, voice=True, seconds=seconds))[None]
