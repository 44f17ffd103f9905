"""Provenance of generated audio: prompt, seed, model and rights, as tags of an audio file.

The same nine fields are written into WAV and MP3 (ID3v2.4 `TXXX` frames), FLAC and OGG (Vorbis
comments), beside an ordinary title and comment that any player displays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from melisma.files.typed_json import MAX_INTEGER, parse_json, typed
from melisma.values.errors import MelismaError
from melisma.values.prompt import clean_text

MAX_TITLE_CHARACTERS = 120
"""Maximum length of the title tag, made of the prompt (chosen: what players display)."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of a piece of audio."""

    prompt: str
    """The text of the request."""
    seed: int
    """Seed of the piece's random generator."""
    model: str
    """Name of the model."""
    fingerprint: str
    """Fingerprint of the model's weights and settings."""
    licence: str
    """Licence of the model's weights; `rights` says what it means for the music."""
    ai_generated: bool = True
    settings: str = "{}"
    """Sampling settings: a JSON object."""
    version: str = ""
    """Version of Melisma that wrote the file."""

    def __post_init__(self) -> None:
        settings = parse_json(self.settings, "the text of the settings of a provenance")
        if not isinstance(settings, dict):
            raise MelismaError("the settings of a provenance are a JSON object, e.g. {}")
        typed(settings, dict[str, Any], "the settings of a provenance")

    def fields(self) -> dict[str, str]:
        """The tags as text, by their names in a file."""
        words = {
            "prompt": self.prompt,
            "seed": str(self.seed),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "licence": self.licence,
            "rights": self.rights,
            "AI-generated": "yes" if self.ai_generated else "no",
            "settings": self.settings,
            "melisma-version": self.version,
        }
        # A zero byte would end the tag (ID3v2.4, section 4: text frames are lists split by it).
        return {name: word.replace("\0", " ") for name, word in words.items()}

    @property
    def title(self) -> str:
        """The prompt on one line, truncated to `MAX_TITLE_CHARACTERS`."""
        line = " ".join(self.prompt.replace("\0", " ").split())
        return line if len(line) <= MAX_TITLE_CHARACTERS else line[: MAX_TITLE_CHARACTERS - 1] + "…"

    @property
    def rights(self) -> str:
        """What may be done with the music, in a sentence."""
        return rights_statement(self.licence)

    @property
    def comment(self) -> str:
        """Two sentences for the comment tag: where the music is from, and whose it is."""
        program = f"Melisma {self.version}".strip()
        how = "AI-generated" if self.ai_generated else "Made"
        return f"{how} by {program} (model {self.model}, seed {self.seed}). {self.rights}"


def rights_statement(licence: str) -> str:
    """What may be done with the music of a model, in a sentence.

    Args:
        licence: Licence of the model's weights, e.g. "CC BY-SA 4.0".
    """
    if allows_commercial_use(licence):
        return "The authors of Melisma claim no rights in this music."
    return f"The licence of the model's weights, {licence}, forbids commercial use of this music."


def allows_commercial_use(licence: str) -> bool:
    """Whether a licence allows commercial use: all but those with a "NC" (non-commercial)."""
    return "NC" not in licence.upper().replace("-", " ").split()


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= MAX_INTEGER:
        raise MelismaError(f"a seed lies between 0 and {MAX_INTEGER}")
    return seed


def provenance_from_fields(fields: Mapping[str, str]) -> Provenance | None:
    """Parses the provenance from a file's tags.

    Args:
        fields: Tags by name, in any case.

    Returns:
        The provenance; None where Melisma did not write the tags, or they are damaged.
    """
    words = {name.lower(): clean_text(word) for name, word in fields.items()}
    if "ai-generated" not in words or "fingerprint" not in words:
        return None
    try:
        return Provenance(
            prompt=words.get("prompt", ""),
            seed=_seed(words.get("seed", "")),
            model=words.get("model", ""),
            fingerprint=words["fingerprint"],
            licence=words.get("licence", ""),
            ai_generated=words["ai-generated"] == "yes",
            settings=words.get("settings", "{}"),
            version=words.get("melisma-version", ""),
        )
    except ValueError:  # edited tags: no provenance rather than a wrong one
        return None
