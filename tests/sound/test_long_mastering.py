"""Long pieces are mastered in blocks, and come out as they would in memory."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from melisma.sound import long_mastering
from melisma.sound.long_mastering import master_stored, stored_lufs, stored_true_peak_db
from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.sound.mastering import master
from melisma.sound.stored import StoredSound
from melisma.values import Waveform


def piece(seconds: float, rate_hz: int, channels: int, level: float, seed: int) -> Waveform:
    """Noise and tones whose level drifts, with an offset, a pause and loud peaks."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    drift = 0.3 + 0.7 * np.sin(2 * np.pi * time / 17.0) ** 2
    samples = level * drift * rng.normal(size=(channels, len(time)))
    samples += level * np.sin(2 * np.pi * 220 * time) + 0.05
    samples[:, len(time) // 3 : len(time) // 2] *= 1e-3
    samples[:, rng.integers(0, len(time), 20)] *= 6
    return Waveform(samples=samples.astype(np.float32), rate_hz=rate_hz)


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "channels", "level"),
    [
        (47.123, 24_000, 1, 0.1),
        (20.0, 44_100, 2, 0.02),
        (30.0, 22_050, 1, 0.5),
        (20.0, 8_000, 2, 0),
    ],
)
def test_blocks_are_mastered_as_the_whole(
    seconds: float, rate_hz: int, channels: int, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = piece(seconds, rate_hz, channels, level, seed=round(seconds))
    stored = StoredSound.of(sound)
    assert np.array_equal(master_stored(stored).waveform.samples, master(sound).samples)
    monkeypatch.setattr(long_mastering, "WHOLE_SAMPLES", 0)
    monkeypatch.setattr("melisma.sound.stored.MEMORY_BYTES", 1 << 16)
    blockwise = master_stored(stored).waveform.samples
    np.testing.assert_allclose(blockwise, master(sound).samples, atol=2e-6)


def test_loudness_and_peak_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_mastering, "WHOLE_SAMPLES", 0)
    sound = piece(31.7, 44_100, 2, 0.1, seed=4)
    stored = StoredSound.of(sound)
    expected = integrated_lufs(sound)
    assert expected is not None
    assert stored_lufs(stored) == pytest.approx(expected, abs=1e-6)
    assert stored_true_peak_db(stored) == pytest.approx(true_peak_db(sound), abs=1e-9)
    silence = StoredSound.of(Waveform(samples=np.zeros((1, 480_000)), rate_hz=24_000))
    assert stored_lufs(silence) is None
    assert stored_true_peak_db(silence) == -np.inf


def test_a_full_disk_of_temporary_files_is_named() -> None:
    stored = StoredSound(rate_hz=8_000, channels=1)

    class Full:
        def seek(self, *_: object) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    stored._file = Full()  # pyright: ignore[reportAttributeAccessIssue] - as far as it is used
    with pytest.raises(OSError, match="is full, where long pieces lie") as caught:
        stored.append(np.zeros((1, 10), np.float32))
    assert caught.value.errno == errno.ENOSPC


def test_stored_sound_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melisma.sound.stored.MEMORY_BYTES", 4_000)
    sound = piece(12.0, 8_000, 2, 0.1, seed=5)
    stored = StoredSound(rate_hz=8_000, channels=2)
    for part in np.array_split(sound.samples, 7, axis=1):
        stored.append(part)
    assert stored.seconds == 12.0
    assert np.array_equal(stored.waveform.samples, sound.samples)
    assert np.array_equal(stored.read(-5, 100), sound.samples[:, :100])
    assert np.array_equal(stored.read(95_990, 200_000), sound.samples[:, 95_990:])
    assert stored.read(10, 10).shape == (2, 0)
    parts = [block.samples for block in stored.blocks(start=3)]
    assert np.array_equal(np.concatenate(parts, axis=1), sound.samples[:, 3:])
    stored.cut(100)
    stored.append(sound.samples[:, :3])
    assert stored.length == 103
    assert np.array_equal(stored.read(100, 103), sound.samples[:, :3])
