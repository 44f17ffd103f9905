"""What a file says of its rights."""

from __future__ import annotations

import json
from pathlib import Path

import mutagen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.files import Provenance, read_provenance, write_audio
from melisma.files.provenance import allows_commercial_use, provenance_from_fields
from melisma.values import Waveform


def _provenance(licence: str) -> Provenance:
    return Provenance(prompt="a waltz", seed=7, model="m", fingerprint="f", licence=licence)


def test_music_of_free_weights_is_claimed_by_nobody() -> None:
    for licence in ("CC BY-SA 4.0", "not stated", "MIT"):
        assert "claim no rights" in _provenance(licence).rights
        assert "commercial" not in _provenance(licence).rights


def test_music_of_non_commercial_weights_says_so() -> None:
    for licence in ("CC BY-NC 4.0", "CC-BY-NC-4.0", "cc-by-nc-sa-4.0"):
        assert not allows_commercial_use(licence)
        assert "forbids commercial use" in _provenance(licence).rights
        assert licence in _provenance(licence).rights


@pytest.mark.parametrize("ending", [".wav", ".flac", ".mp3", ".ogg"])
def test_the_rights_stand_where_players_show_them(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    sound = Waveform(samples=np.zeros((1, 24_000), np.float32), rate_hz=24_000)
    provenance = _provenance("CC BY-SA 4.0")
    write_audio(path, sound, provenance)
    assert read_provenance(path) == provenance
    tags = {name.lower(): str(text) for name, text in dict(mutagen.File(path) or {}).items()}
    for beginning in ("com", "rights" if ending in (".flac", ".ogg") else "txxx:rights"):
        assert any(
            name.startswith(beginning) and provenance.rights in text for name, text in tags.items()
        )


TEXTS = st.text() | st.sampled_from(["{}", "yes", "no", "7", "-1", "9" * 5_000, "[" * 5_000, "1e9"])


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"AI-generated": TEXTS, "fingerprint": TEXTS},
        optional=dict.fromkeys(("prompt", "seed", "model", "licence", "settings"), TEXTS),
    )
)
def test_edited_tags_are_read_or_are_none(fields: dict[str, str]) -> None:
    found = provenance_from_fields(fields)
    if found is not None:
        json.dumps(found.fields()).encode()
        found.comment.encode()
        assert 0 <= found.seed <= 2**53
        assert isinstance(json.loads(found.settings), dict)


def test_a_nested_or_endless_setting_is_no_provenance() -> None:
    plain = _provenance("MIT").fields()
    assert provenance_from_fields(plain) is not None
    for text in ("[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "1" * 5_000, '{"a": 1e999e}'):
        assert provenance_from_fields({**plain, "settings": text}) is None


@pytest.mark.parametrize("ending", ["wav", "mp3", "flac", "ogg"])
def test_damaged_tags_raise_nothing(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    samples = 0.1 * np.ones((1, 4_800), dtype=np.float32)
    write_audio(path, Waveform(samples=samples, rate_hz=24_000), _provenance("MIT"))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 9))):
            # Tags stand at either end.
            near = int(rng.integers(min(len(data), 600)))
            data[near if rng.random() < 0.7 else -1 - near] = int(rng.integers(256))
        path.write_bytes(data[: len(data) - int(rng.choice([0, 0, 7, 300]))])
        read_provenance(path)
