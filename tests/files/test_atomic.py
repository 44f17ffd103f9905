"""Named arrays, written atomically."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melisma.files.atomic import write_arrays


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_read_back(tmp_path: Path, compressed: bool) -> None:
    arrays = {"onset": np.arange(5, dtype=np.int16), "pitch": np.ones((2, 3), np.float16)}
    write_arrays(tmp_path / "notes.npz", arrays, compressed=compressed)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.npz"]
    with np.load(tmp_path / "notes.npz", allow_pickle=False) as stored:
        assert stored.files == ["onset", "pitch"]
        for name, array in arrays.items():
            assert stored[name].dtype == array.dtype
            assert np.array_equal(stored[name], array)


def test_a_failed_write_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.npz"
    write_arrays(path, {"pitch": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_arrays(path, {"file": np.arange(3)})  # a name that NumPy's writer keeps for itself
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["notes.npz"]
