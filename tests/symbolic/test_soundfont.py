"""Soundfonts are found in their order, and what is none is refused before a library meets it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small_soundfont import Sound, full_bank, soundfont_bytes, write_soundfont

from melisma.symbolic.soundfont import discovery
from melisma.symbolic.soundfont.discovery import VARIABLE, find_soundfont, packaged_soundfont
from melisma.symbolic.soundfont.presets import read_soundfont
from melisma.values.errors import MelismaError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders of a system that has nothing yet, and no variable."""
    places = [tmp_path / "one", tmp_path / "two", tmp_path / "missing"]
    for place in places[:2]:
        place.mkdir()
    monkeypatch.setattr(discovery, "SYSTEM_FOLDERS", tuple(places))
    monkeypatch.delenv(VARIABLE, raising=False)
    return places


def test_the_one_given_comes_first_then_the_variable_then_the_system(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write_soundfont(tmp_path / "given.sf2", [Sound()])
    named = write_soundfont(tmp_path / "named.sf2", [Sound()])
    system = write_soundfont(folders[1] / "FluidR3_GM.sf2", full_bank())
    assert find_soundfont().path == system
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_soundfont().path == named
    assert find_soundfont(given).path == given


def test_full_banks_are_preferred_by_name_over_all_folders(folders: list[Path]) -> None:
    write_soundfont(folders[0] / "a_piano.sf2", [Sound()])
    write_soundfont(folders[0] / "zither.sf2", full_bank())
    assert find_soundfont().path.name == "zither.sf2"
    for name in ("TimGM6mb.sf2", "default-GM.sf2", "GeneralUser GS.SF2", "MuseScore_General.sf3"):
        write_soundfont(folders[1] / name, full_bank())
        assert find_soundfont().path.name == name
    write_soundfont(folders[1] / "FluidR3_GM.sf2", [Sound()])
    assert find_soundfont().path.name == "MuseScore_General.sf3"
    (folders[0] / "FluidR3_GM.sf2").write_bytes(soundfont_bytes(full_bank())[:-700])
    assert find_soundfont().path.name == "MuseScore_General.sf3"


@pytest.mark.usefixtures("folders")
def test_the_packaged_one_comes_last_and_without_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = find_soundfont()
    assert found.path == packaged_soundfont()
    assert found.is_full
    monkeypatch.setattr(discovery, "packaged_soundfont", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"--soundfont, or set MELISMA_SOUNDFONT"):
        find_soundfont()


def test_the_package_is_found_without_loading_it() -> None:
    loaded = "pretty_midi" in sys.modules
    assert packaged_soundfont() is not None
    assert ("pretty_midi" in sys.modules) == loaded


def test_a_wrong_variable_is_an_error_and_not_passed_over(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_soundfont(folders[0] / "FluidR3_GM.sf2", full_bank())
    monkeypatch.setenv(VARIABLE, str(folders[0] / "nix.sf2"))
    with pytest.raises(FileNotFoundError, match=r"there is no soundfont .*nix\.sf2"):
        find_soundfont()


def test_what_is_no_soundfont_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.sf2"
    whole = soundfont_bytes([Sound()])
    for data, says in (
        (b"", "is no soundfont"),
        (b"RIFF", "is no soundfont"),
        (b"RIFF\x04\0\0\0WAVE", "is no soundfont"),
        (b"words, not sound " * 50, "is no soundfont"),
        (b"RIFF\x04\0\0\0sfbk", "is damaged .its part phdr is missing"),
        (whole[: len(whole) // 2], "is cut short: get it again"),
        (whole.replace(b"shdr", b"shhh"), "its part shdr is missing"),
        (whole.replace(b"smpl", b"samp"), "its part smpl is missing"),
        (whole.replace(b"igen\x14", b"igen\x15"), "runs over the end|bytes"),
    ):
        path.write_bytes(data)
        with pytest.raises(MelismaError, match=says):
            read_soundfont(path)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_soundfont(tmp_path)


def test_a_bank_says_what_it_holds(tmp_path: Path) -> None:
    sounds = [Sound(number=5, low=40, high=60), Sound(bank=128)]
    bank = read_soundfont(write_soundfont(tmp_path / "x.sf2", sounds))
    assert bank.presets == {(0, 5), (128, 0)}
    assert not bank.is_full
    (region,) = bank.regions((0, 5))
    assert (region.keys, region.velocities) == ((40, 60), (0, 127))
    assert np.flatnonzero(bank.pitches((0, 5))).tolist() == list(range(40, 61))
    assert region.recording.rate_hz == 44_100
    assert (region.recording.loop_start, region.recording.loop_end) == (100, 900)
    sound = bank.sound(region.recording)
    assert sound.shape == (1_000,)
    assert sound.max() == pytest.approx(16_000 / 32_768, abs=1e-3)


def test_damaged_soundfonts_raise_nothing_but_value_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(soundfont_bytes([Sound(number=n) for n in range(4)]), dtype=np.uint8)
    path = tmp_path / "x.sf2"
    opened = 0
    for _ in range(400):
        data = whole.copy()
        places = rng.integers(len(data) - 900, len(data), rng.integers(1, 12))
        data[places] = rng.integers(0, 256, len(places))
        path.write_bytes(data.tobytes()[: len(data) - int(rng.integers(0, 2) * rng.integers(300))])
        try:
            bank = read_soundfont(path)
        except ValueError:
            continue
        opened += 1
        for preset in bank.presets:
            for region in bank.regions(preset):
                assert np.isfinite(bank.sound(region.recording)).all()
            assert bank.pitches(preset).shape == (128,)
    assert opened > 20
