"""SoundFont parser: presets, and the recordings that sound for a pitch and velocity.

Input: an .sf2 or .sf3 file. Output: `Region`s and their recordings, float32 [sample]. Follows the
SoundFont Technical Specification 2.04 (E-mu Systems, 2006), sections 5 to 8; .sf3 is the same with
each recording as Ogg Vorbis (MuseScore). The file is untrusted: inconsistent ones are rejected
before they reach a C library.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.symbolic.playback import DRUM_BANK, Preset
from melisma.values.errors import MelismaError

FULL_BANK = 120
"""A SoundFont with this many General MIDI programs counts as complete."""

_TEXT = "S20"
_HEADERS = np.dtype(
    [("name", _TEXT), ("number", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]
)
_INSTRUMENTS = np.dtype([("name", _TEXT), ("bag", "<u2")])
_BAGS = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATORS = np.dtype([("kind", "<u2"), ("amount", "<i2")])
_RECORDINGS = np.dtype(
    [("name", _TEXT), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"),
     ("loop_end", "<u4"), ("rate_hz", "<u4"), ("pitch", "u1"), ("correction", "i1"),
     ("link", "<u2"), ("kind", "<u2")]
)  # fmt: skip
_TABLES = {
    b"phdr": _HEADERS, b"pbag": _BAGS, b"pgen": _GENERATORS,
    b"inst": _INSTRUMENTS, b"ibag": _BAGS, b"igen": _GENERATORS, b"shdr": _RECORDINGS,
}  # fmt: skip

INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, RECORDING = 41, 43, 44, 53
SAMPLE_MODES, EXCLUSIVE, ROOT_KEY, FIXED_KEY = 54, 57, 58, 46
_NOT_ADDED = {0, 1, 2, 3, 4, 12, 45, 50, 41, 43, 44, 46, 47, 53, 54, 57, 58}
"""Generators to which a preset may not add (section 8.5)."""
DEFAULTS = {
    8: 13_500, 25: -12_000, 26: -12_000, 27: -12_000, 28: -12_000, 30: -12_000,
    33: -12_000, 34: -12_000, 35: -12_000, 36: -12_000, 38: -12_000,
    KEY_RANGE: 127 << 8, VELOCITY_RANGE: 127 << 8, FIXED_KEY: -1, ROOT_KEY: -1, 56: 100,
}  # fmt: skip
"""Defaults of the generators other than 0 (section 8.1.3)."""
_ROM, _VORBIS = 0x8000, 0x10
"""Flags of a recording's kind: in a sound card's ROM; Ogg Vorbis."""

Generators = dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Location and properties of a recording in the file."""

    start: int
    """First sample, or first byte if it is Vorbis."""
    end: int
    loop_start: int
    """First sample of the loop, relative to `start`."""
    loop_end: int
    """Sample after the loop, relative to `start`."""
    rate_hz: int
    pitch: int
    """MIDI pitch of the recording."""
    correction_cents: int
    is_vorbis: bool


@dataclass(frozen=True, kw_only=True)
class Region:
    """A recording, the ranges of keys and velocities in which it sounds, and its generators."""

    recording: Recording
    keys: tuple[int, int]
    """Lowest and highest pitch."""
    velocities: tuple[int, int]
    generators: Generators
    """Generator values of section 8.1.2 by generator number, without defaults."""

    def value(self, generator: int) -> int:
        """Value of a generator, or its default."""
        return self.generators.get(generator, DEFAULTS.get(generator, 0))

    def sounds(self, pitch: int, velocity: int) -> bool:
        """Whether this region sounds for a note."""
        return (
            self.keys[0] <= pitch <= self.keys[1]
            and self.velocities[0] <= velocity <= self.velocities[1]
        )


class SoundFont:
    """An open SoundFont, see `read_soundfont`."""

    def __init__(self, path: Path, tables: dict[bytes, np.ndarray], samples: np.ndarray) -> None:
        """Indexes the presets.

        Args:
            path: The file.
            tables: Tables of the chunk "pdta" by name.
            samples: The chunk of recordings, uint8 [byte], memory-mapped.
        """
        self.path = path
        self._tables = tables
        self._samples = samples
        headers = tables[b"phdr"]
        self._index: dict[Preset, int] = {}
        for index in range(len(headers) - 1):
            preset = int(headers["bank"][index]), int(headers["number"][index])
            self._index.setdefault(preset, index)

    @property
    def presets(self) -> frozenset[Preset]:
        """(bank, number) of every preset; drum kits are in bank 128."""
        return frozenset(self._index)

    @property
    def is_full(self) -> bool:
        """Whether it has nearly all General MIDI programs, and drums."""
        melodic = sum(preset[0] == 0 for preset in self._index)
        return melodic >= FULL_BANK and any(preset[0] == DRUM_BANK for preset in self._index)

    def regions(self, preset: Preset) -> tuple[Region, ...]:
        """Regions of a preset; those whose recording is missing are dropped."""
        index = self._index[preset]
        found: list[Region] = []
        for over in self._zones(b"phdr", b"pbag", b"pgen", index, INSTRUMENT):
            instrument = over[INSTRUMENT]
            if instrument >= len(self._tables[b"inst"]) - 1:
                continue
            for own in self._zones(b"inst", b"ibag", b"igen", instrument, RECORDING):
                region = self._region(own, over)
                if region is not None:
                    found.append(region)
        return tuple(found)

    def pitches(self, preset: Preset) -> np.ndarray:
        """Pitches for which a preset has a recording, bool [128]."""
        reach = np.zeros(128, dtype=bool)
        for region in self.regions(preset):
            reach[region.keys[0] : region.keys[1] + 1] = True
        return reach

    def _zones(
        self, heads: bytes, bags: bytes, generators: bytes, index: int, target: int
    ) -> list[Generators]:
        """Generators of each zone with a `target`, on top of those of the global zone."""
        table, bag_table = self._tables[heads]["bag"], self._tables[bags]["generator"]
        entries = self._tables[generators]
        shared: Generators = {}
        zones: list[Generators] = []
        for bag in range(int(table[index]), int(table[index + 1])):
            rows = entries[int(bag_table[bag]) : int(bag_table[bag + 1])]
            zone = dict(zip(rows["kind"].tolist(), rows["amount"].tolist(), strict=True))
            if target in zone:
                zones.append(shared | zone | {target: zone[target] & 0xFFFF})
            elif not zones:
                shared = zone
        return zones

    def _region(self, own: Generators, over: Generators) -> Region | None:
        """The region of an instrument's zone (`own`) in a preset's zone (`over`)."""
        number = own[RECORDING]
        rows = self._tables[b"shdr"]
        if number >= len(rows) - 1:
            return None
        recording = self._recording(rows[number], own)
        keys = _intersect(own.get(KEY_RANGE, 127 << 8), over.get(KEY_RANGE, 127 << 8))
        velocities = _intersect(
            own.get(VELOCITY_RANGE, 127 << 8), over.get(VELOCITY_RANGE, 127 << 8)
        )
        if recording is None or keys[0] > keys[1] or velocities[0] > velocities[1]:
            return None
        sums = dict(own)
        for kind, amount in over.items():
            if kind not in _NOT_ADDED:
                sums[kind] = sums.get(kind, DEFAULTS.get(kind, 0)) + amount
        return Region(recording=recording, keys=keys, velocities=velocities, generators=sums)

    def _recording(self, row: np.void, own: Generators) -> Recording | None:
        """The recording with the zone's offsets, None where it is empty or not in the file."""
        kind = int(row["kind"])
        is_vorbis = bool(kind & _VORBIS)
        size = len(self._samples) if is_vorbis else len(self._samples) // 2
        start, end = int(row["start"]), int(row["end"])
        loop_start, loop_end = int(row["loop_start"]), int(row["loop_end"])
        if not is_vorbis:
            loop_start, loop_end = loop_start - start, loop_end - start
            moved = own.get(0, 0) + 32_768 * own.get(4, 0)
            start, end = start + moved, end + own.get(1, 0) + 32_768 * own.get(12, 0)
            loop_start, loop_end = loop_start - moved, loop_end - moved
        loop_start += own.get(2, 0) + 32_768 * own.get(45, 0)
        loop_end += own.get(3, 0) + 32_768 * own.get(50, 0)
        rate_hz = int(row["rate_hz"])
        if kind & _ROM or not 0 <= start < end <= size or not 1_000 <= rate_hz <= 384_000:
            return None
        pitch = int(row["pitch"])
        return Recording(
            start=start,
            end=end,
            loop_start=loop_start,
            loop_end=loop_end,
            rate_hz=rate_hz,
            pitch=pitch if pitch <= 127 else 60,
            correction_cents=int(row["correction"]),
            is_vorbis=is_vorbis,
        )

    def sound(self, recording: Recording) -> np.ndarray:
        """Decodes a recording, float32 [sample]; empty where its Vorbis stream is damaged."""
        if recording.is_vorbis:
            import soundfile

            encoded = io.BytesIO(self._samples[recording.start : recording.end].tobytes())
            try:
                sound, _ = soundfile.read(encoded, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                return np.zeros(0, dtype=np.float32)
            return np.ascontiguousarray(sound[:, 0])
        part = self._samples[2 * recording.start : 2 * recording.end].tobytes()
        return np.frombuffer(part, dtype="<i2").astype(np.float32) / 32_768.0


def _intersect(one: int, other: int) -> tuple[int, int]:
    """Intersection of two ranges, each encoded as low + 256 * high."""
    low = max(one & 0xFF, other & 0xFF)
    return low, min((one >> 8) & 0xFF, (other >> 8) & 0xFF)


def read_soundfont(path: Path) -> SoundFont:
    """Opens and validates a SoundFont.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: The file is no SoundFont, truncated or inconsistent.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no soundfont {path}: name a .sf2 or .sf3 file")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a .sf2 or .sf3 file inside it")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise MelismaError(f"{path} is no soundfont: give a .sf2 or .sf3 file")
    if int.from_bytes(head[4:8], "little") + 8 > size:
        raise MelismaError(f"the soundfont {path} is cut short: get it again")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    try:
        return _open(path, data)
    except ValueError as error:
        raise MelismaError(f"the soundfont {path} is damaged ({error}): get it again") from error


def _open(path: Path, data: np.ndarray) -> SoundFont:
    chunks: dict[bytes, tuple[int, int]] = {}
    for kind, start, stop in _chunks(data, 12, len(data)):
        if kind == b"LIST" and stop - start >= 4:
            inside = _chunks(data, start + 4, stop)
            chunks |= {name: (first, last) for name, first, last in inside}
    missing = [name.decode() for name in (*_TABLES, b"smpl") if name not in chunks]
    if missing:
        raise MelismaError(f"its part {missing[0]} is missing")
    tables: dict[bytes, np.ndarray] = {}
    for name, rows in _TABLES.items():
        start, stop = chunks[name]
        if (stop - start) % rows.itemsize or stop == start:
            raise MelismaError(f"its part {name.decode()} has {stop - start} bytes")
        tables[name] = np.frombuffer(data[start:stop].tobytes(), dtype=rows)
    for owner, column, owned in (
        (b"phdr", "bag", b"pbag"),
        (b"inst", "bag", b"ibag"),
        (b"pbag", "generator", b"pgen"),
        (b"ibag", "generator", b"igen"),
    ):
        starts = tables[owner][column].astype(np.int64)
        if (np.diff(starts) < 0).any() or starts[-1] >= len(tables[owned]) + (owner != b"phdr"):
            raise MelismaError(f"its part {owner.decode()} points behind the end")
    start, stop = chunks[b"smpl"]
    return SoundFont(path, tables, data[start:stop])


def _chunks(data: np.ndarray, at: int, stop: int) -> list[tuple[bytes, int, int]]:
    """(name, start, stop) of each chunk's contents. Not all writers pad chunks of odd length with
    a zero byte."""
    found: list[tuple[bytes, int, int]] = []
    while at + 8 <= stop:
        name = data[at : at + 4].tobytes()
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8].tobytes(), "little")
        if end > stop:
            raise MelismaError("a part runs over the end")
        found.append((name, at + 8, end))
        at = end
        if at % 2 and at < stop and data[at] == 0:
            at += 1
    return found
