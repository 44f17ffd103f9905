"""Provenance of generated audio: prompt, seed, model and licence, as tags of an audio file.

The same eight fields are written into WAV and MP3 (ID3v2.4 `TXXX` frames), FLAC and OGG (Vorbis
comments), beside an ordinary title and comment that any player displays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from melisma.values.errors import MelismaError

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
    """Licence of the model's output, as its card states it."""
    ai_generated: bool = True
    settings: str = "{}"
    """Sampling settings: a JSON object."""
    version: str = ""
    """Version of Melisma that wrote the file."""

    def __post_init__(self) -> None:
        try:
            settings = json.loads(self.settings)
        except json.JSONDecodeError as error:
            raise MelismaError(f"the settings of a provenance are not JSON: {error}") from error
        if not isinstance(settings, dict):
            raise MelismaError("the settings of a provenance are a JSON object, e.g. {}")

    def fields(self) -> dict[str, str]:
        """The tags as text, by their names in a file."""
        words = {
            "prompt": self.prompt,
            "seed": str(self.seed),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "licence": self.licence,
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
    def comment(self) -> str:
        """One sentence for the comment tag."""
        program = f"Melisma {self.version}".strip()
        how = "AI-generated" if self.ai_generated else "Made"
        return f"{how} by {program} (model {self.model}, seed {self.seed})"


def provenance_from_fields(fields: Mapping[str, str]) -> Provenance | None:
    """Parses the provenance from a file's tags.

    Args:
        fields: Tags by name, in any case.

    Returns:
        The provenance; None where Melisma did not write the tags, or they are damaged.
    """
    words = {name.lower(): word for name, word in fields.items()}
    if "ai-generated" not in words or "fingerprint" not in words:
        return None
    try:
        return Provenance(
            prompt=words.get("prompt", ""),
            seed=int(words.get("seed", "")),
            model=words.get("model", ""),
            fingerprint=words["fingerprint"],
            licence=words.get("licence", ""),
            ai_generated=words["ai-generated"] == "yes",
            settings=words.get("settings", "{}"),
            version=words.get("melisma-version", ""),
        )
    except ValueError:  # edited tags: no provenance rather than a wrong one
        return None
