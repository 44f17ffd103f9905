"""Moods of an excerpt from its musical features, by way of valence and arousal.

The rules follow the findings collected by Gabrielsson and Lindström (in Juslin and Sloboda,
Handbook of Music and Emotion, 2010, chapter 14): fast, loud, dense, staccato music is aroused;
major, high, consonant music is pleasant; slow, low, minor music is sad; soft legato is tender.
The weights and thresholds are ours, chosen on real scores so that each mood fits 5 to 30 % of
clips.
"""

from __future__ import annotations

from dataclasses import dataclass

_MIN_FIT = 0.5
"""Minimum fit of a mood."""
_MAX_MOODS = 3
_FAR_BELOW = 0.2
"""Maximum difference in fit of a second or third mood from the first."""


@dataclass(frozen=True, kw_only=True)
class Character:
    """Features of an excerpt, on scales where 0 is average and +-1 pronounced."""

    brightness: float
    """Major above 0, minor below; 0 without a key."""
    speed: float
    """Perceived tempo and onset rate combined."""
    loudness: float
    height: float
    """Register."""
    dissonance: float
    staccato: float
    """Short notes above 0, legato below."""
    weight: float
    """0..1: solemnity of the instruments: organ, and to a lesser degree choir and brass."""
    shimmer: float
    """1 for harp, mallets, synth pads, electric piano; 0 otherwise."""
    drive: float
    """1 for a drum kit or a prominent electric guitar, 0 otherwise."""

    @property
    def valence(self) -> float:
        """Pleasantness, about -1..1."""
        return (
            0.65 * self.brightness
            + 0.15 * self.speed
            + 0.15 * self.height
            + 0.1 * self.staccato
            - 0.25 * self.dissonance
        )

    @property
    def arousal(self) -> float:
        """Activation, about -1..1."""
        return (
            0.55 * self.speed
            + 0.3 * self.loudness
            + 0.15 * self.staccato
            + 0.1 * self.dissonance
            + 0.25 * self.drive
        )


def _fits(character: Character) -> dict[str, float]:
    """How well each of `MOODS` fits, about 0..1."""
    v, a, c = character.valence, character.arousal, character
    return {
        "calm": 0.35 - 0.8 * a - 0.3 * c.loudness - 0.3 * max(c.dissonance, 0.0) - 0.2 * abs(v),
        "happy": 0.05 + 0.7 * v + 0.45 * a - 0.3 * max(c.dissonance, 0.0),
        "sad": 0.1 - 0.75 * v - 0.55 * a,
        "tense": 0.1 - 0.45 * v + 0.45 * a + 0.35 * c.dissonance,
        "tender": 0.1 + 0.35 * v - 0.5 * a - 0.35 * c.loudness - 0.2 * c.staccato
        + 0.1 * c.height - 0.4 * c.weight,
        "energetic": 0.1 + 0.85 * a + 0.15 * c.drive,
        "solemn": 0.05 - 0.4 * c.speed + 0.35 * c.weight - 0.2 * c.height - 0.15 * c.staccato
        + 0.1 * c.loudness - 0.1 * c.drive,
        "playful": 0.0 + 0.35 * v + 0.25 * c.speed + 0.45 * c.staccato + 0.25 * c.height
        - 0.2 * c.loudness - 0.3 * c.drive,
        "dark": 0.05 - 0.5 * v - 0.5 * c.height + 0.15 * c.loudness,
        "dreamy": 0.0 - 0.35 * a - 0.35 * c.loudness + 0.45 * c.shimmer - 0.15 * c.staccato
        + 0.15 * c.height - 0.15 * abs(c.brightness),
    }  # fmt: skip


def derive_moods(character: Character) -> tuple[str, ...]:
    """Up to three of `MOODS`, the best fitting first."""
    fits = sorted(_fits(character).items(), key=lambda item: -item[1])
    least = max(_MIN_FIT, fits[0][1] - _FAR_BELOW)
    return tuple(mood for mood, fit in fits[:_MAX_MOODS] if fit >= least)
