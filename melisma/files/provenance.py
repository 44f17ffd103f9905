"""Where a sound came from, as a value, and its place in the tags of an audio file.

The same eight fields are written into WAV and MP3 (ID3v2.4 `TXXX` frames), FLAC and OGG (Vorbis
comments), beside an ordinary title and comment that any player shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_TITLE = 120
"""Characters of the prompt that become the title tag (chosen: what players show)."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who and what made a sound."""

    prompt: str
    """The words that were asked for."""
    seed: int
    """Seed of this piece's own generator."""
    model: str
    """Name of the model."""
    fingerprint: str
    """Fingerprint of the model's weights and settings."""
    licence: str
    """Licence of the model's output, as its card states it."""
    ai_generated: bool = True
    settings: str = "{}"
    """How it was drawn: a JSON object."""
    version: str = ""
    """Version of Melisma that wrote the file."""

    def __post_init__(self) -> None:
        try:
            settings = json.loads(self.settings)
        except json.JSONDecodeError as error:
            raise ValueError(f"the settings of a provenance are not JSON: {error}") from error
        if not isinstance(settings, dict):
            raise ValueError("the settings of a provenance are a JSON object, e.g. {}")

    def fields(self) -> dict[str, str]:
        """The tags as words, by their names in a file."""
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
        """The prompt on one line, cut to what players show."""
        line = " ".join(self.prompt.replace("\0", " ").split())
        return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"

    @property
    def comment(self) -> str:
        """One sentence for players that show the comment."""
        maker = f"Melisma {self.version}".strip()
        how = "AI-generated" if self.ai_generated else "Made"
        return f"{how} by {maker} (model {self.model}, seed {self.seed})"


def provenance_from_fields(fields: Mapping[str, str]) -> Provenance | None:
    """The provenance in a file's tags (names in any case), None where the tags are not ours."""
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
    except ValueError:  # tags that somebody edited: no provenance rather than a wrong one
        return None
