"""How near a piece comes to the clips that a model learned from: the longest run of semantic tokens
that it shares with one, the five seconds that agree best, the clip that sounds most like it.

Follows the two questions of MusicLM's memorisation study (2301.11325, section 4.3): is a stretch
the same token by token, and is the whole nearly the same. Here they are asked of *any* piece, and
the search is exact. For runs, triples of stretches (a token and how long it is held) are hashed and
sorted, found by bisection and followed to both ends; no run that counts can be missed, because it
holds three whole stretches. For agreement, equal frames are counted at every alignment.

Most frames repeat the one before them, and a held note or a rest is shared by everybody. So a run
or an agreement counts only with `FEWEST_TOKENS` different tokens or more, and of each stretch of
one token `HELD_FRAMES` at most.

Tokens that a model drew show a copy exactly. Sound that went through a codec is heard anew with
half of its frames changed: of 32 clips copied so, runs find 5 and agreement 27 (measured).

Enters: first-level semantic tokens at 25 Hz and joint vectors of windows of 10 s. Leaves: a
`Resemblance`, with limits that hold what held-out real clips reach (`clip_limits.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.files.compression import packed, unpacked
from melisma.values.tokens import FRAME_RATE_HZ

KIND = "originality"
"""What its checkpoint is called, and its file in a model's folder."""
FEWEST_TOKENS = 5
"""A run has at least so many different tokens (chosen: a second of real music has 6 at the median);
five make three whole stretches, which is what the search hashes."""
HELD_FRAMES = 10
"""Of a stretch of one token, so many frames count (chosen: .4 s)."""
AGREEMENT_FRAMES = 125
"""Frames that an agreement is looked for in: 5 s, as in the study."""
LIMIT_SHARE = 0.99
"""So many of the real, independent clips lie below a limit."""
_TRIPLE = 3
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_CHUNK = 4_096
_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What independent music of one length reaches."""

    piece_seconds: float
    """Length of the pieces."""
    run_seconds: float
    """So long a run `LIMIT_SHARE` of them do not pass."""
    agreement: float
    """So high a share of equal frames in 5 s `LIMIT_SHARE` of them do not pass."""
    similarity: float
    """So high a cosine `LIMIT_SHARE` of them do not pass."""
    pieces: int
    """Real held-out pieces that it rests on; where they were joined, each counts once."""


@dataclass(frozen=True, kw_only=True)
class SharedTokens:
    """The longest run of tokens that a piece shares with a clip."""

    seconds: float
    """Its length as it counts: of a held token `HELD_FRAMES` at most."""
    whole_seconds: float
    """Its length from end to end."""
    clip: str
    """The clip that has it."""
    clip_start_seconds: float
    """Where in the clip it begins."""
    piece_start_seconds: float
    """Where in the piece it begins."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The five seconds of a piece that agree best with five seconds of a clip."""

    share: float
    """Share of the frames that are equal and count: of a held token `HELD_FRAMES` at most."""
    clip: str
    """The clip."""
    clip_start_seconds: float
    """Where in the clip the first equal frame is."""
    piece_start_seconds: float
    """Where in the piece the first equal frame is."""


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """How near a piece comes to the clips of an index."""

    run: SharedTokens | None
    """None where no run counts."""
    agreement: Agreement | None
    """None where no agreement counts."""
    similarity: float
    """Highest cosine between a window of the piece and one of a clip."""
    similar_clip: str
    """The clip that has it."""
    limit: Limit | None
    """What independent music of about this length reaches; None where nothing was measured."""

    @property
    def run_seconds(self) -> float:
        """Length of the run as it counts; 0 without one."""
        return 0.0 if self.run is None else self.run.seconds

    @property
    def equal_share(self) -> float:
        """Share of equal frames in the five seconds that agree best; 0 without an agreement."""
        return 0.0 if self.agreement is None else self.agreement.share

    @property
    def excess(self) -> float:
        """The greatest of the three in units of its limit; `ValueError` without limits."""
        if self.limit is None:
            raise ValueError(
                "this index has no limits: build it with held-out clips, see `clip_limits`"
            )
        limit = self.limit
        return max(
            self.run_seconds / max(limit.run_seconds, 1e-9),
            self.equal_share / max(limit.agreement, 1e-9),
            self.similarity / max(limit.similarity, 1e-9),
        )

    @property
    def too_similar(self) -> bool:
        """Whether any limit is passed; `ValueError` for an index without limits."""
        return self.excess > 1.0


@dataclass(frozen=True, kw_only=True)
class _Stretches:
    """Maximal stretches of one token in clips of equal length laid end to end."""

    begin: np.ndarray
    """First frame of each, int64 [stretch]."""
    length: np.ndarray
    """Frames of each, int64 [stretch]."""
    hashes: np.ndarray
    """Of every triple of whole stretches inside one clip, uint64 [triple]."""
    places: np.ndarray
    """First frame of each triple, int64 [triple]."""


def _stretches(tokens: np.ndarray) -> _Stretches:
    """Stretches of tokens [clip, frame] and the hashes of their triples."""
    flat = tokens.reshape(-1).astype(np.uint64)
    frames = tokens.shape[1]
    edge = np.arange(len(flat)) % frames == 0
    begin = np.flatnonzero(edge | np.append(True, flat[1:] != flat[:-1]))
    length = np.diff(np.append(begin, len(flat)))
    # The first and the last stretch of a clip may be cut by its edge: their length tells nothing.
    whole = ~edge[begin] & ((begin + length) % frames != 0)
    code = (flat[begin] << np.uint64(32)) | length.astype(np.uint64)
    count = max(len(begin) - _TRIPLE + 1, 0)
    value, kept = np.zeros(count, dtype=np.uint64), np.ones(count, dtype=bool)
    for offset, factor in enumerate(_FACTORS):
        part = code[offset : offset + count]
        value = (value ^ (part * factor)) * factor
        value ^= value >> np.uint64(29)
        kept &= whole[offset : offset + count]
    return _Stretches(begin=begin, length=length, hashes=value[kept], places=begin[:count][kept])


class ClipIndex:
    """The tokens and vectors of many clips, searchable exactly."""

    def __init__(
        self,
        names: Sequence[str],
        tokens: np.ndarray,
        vectors: np.ndarray,
        fingerprints: Mapping[str, str],
        limits: Sequence[Limit] = (),
    ) -> None:
        """`tokens` [clip, frame] of the first semantic level; `vectors` [clip, window, width] of
        unit length; `fingerprints` of the tokenizers that made them. `ValueError` where they do not
        belong together."""
        if tokens.ndim != 2 or not tokens.size or vectors.ndim != 3 or not vectors.size:
            raise ValueError(
                "an index needs tokens [clip, frame] and vectors [clip, window, width], "
                f"not {tokens.shape} and {vectors.shape}"
            )
        if not len(names) == len(tokens) == len(vectors):
            raise ValueError(
                f"{len(names)} names, {len(tokens)} clips of tokens and {len(vectors)} of vectors: "
                "give one of each for every clip"
            )
        if any("\n" in name for name in names):
            raise ValueError("the name of a clip has one line")
        self.names = tuple(names)
        self.tokens = np.ascontiguousarray(tokens, dtype=np.uint16)
        self.vectors = _unit(vectors)
        self.fingerprints = dict(fingerprints)
        self.limits = tuple(sorted(limits, key=lambda limit: limit.piece_seconds))
        found = _stretches(self.tokens)
        order = np.argsort(found.hashes, kind="stable")
        self._hashes, self._places = found.hashes[order], found.places[order]
        flat = self.tokens.reshape(-1)
        self._by_token = np.argsort(flat, kind="stable").astype(np.int32)
        highest = int(flat.max()) + 1
        self._token_begins = np.searchsorted(flat[self._by_token], np.arange(highest + 1))

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, tokens: np.ndarray, vectors: np.ndarray) -> Resemblance:
        """The resemblance of a piece: first-level tokens [frame] and joint vectors [window, width].

        Vectors in the index are rebuilt from style tokens, and its limits are of such: give
        `joint.vectors_of(joint.quantise(vectors))`.
        """
        width = self.vectors.shape[2]
        if tokens.ndim != 1 or vectors.ndim != 2 or vectors.shape[1] != width or not len(vectors):
            raise ValueError(
                f"a piece is tokens [frame] and vectors [window, {width}], not {tokens.shape} "
                f"and {vectors.shape}"
            )
        cosines = _unit(vectors) @ self.vectors.reshape(-1, width).T
        best = int(cosines.max(axis=0).argmax())
        return Resemblance(
            run=self.longest_run(tokens),
            agreement=self.best_agreement(tokens),
            similarity=float(cosines[:, best].max()),
            similar_clip=self.names[best // self.vectors.shape[1]],
            limit=self.limit_of(len(tokens) / FRAME_RATE_HZ),
        )

    def limit_of(self, piece_seconds: float) -> Limit | None:
        """The limit of the next longer pieces that were measured.

        A piece that is longer than all of these is held to the limit of the longest, which
        independent music of its length passes more often.
        """
        for limit in self.limits:
            if piece_seconds <= limit.piece_seconds:
                return limit
        return self.limits[-1] if self.limits else None

    def longest_run(self, tokens: np.ndarray) -> SharedTokens | None:
        """The longest run of tokens [frame] that counts and that a clip has too."""
        tokens = tokens.astype(np.int64)
        if not len(tokens):
            return None
        own = _stretches(tokens[None])
        clip, offset = self._alignments(own)
        held = np.repeat(own.begin, own.length)
        ends = held + np.repeat(own.length, own.length)
        counted = np.append(0, np.cumsum(np.arange(len(tokens)) - held < HELD_FRAMES))
        runs = []
        for start in range(0, len(clip), _CHUNK):
            some = slice(start, start + _CHUNK)
            which, first, last = self._runs(tokens, clip[some], offset[some])
            runs.append((which + start, first, last))
        if not runs:
            return None
        which, first, last = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        # The first stretch may have begun before the run: it counts from the run's beginning.
        edge = np.minimum(ends[first], last)
        worth = np.minimum(edge - first, HELD_FRAMES) + counted[last] - counted[edge]
        for best in np.argsort(-worth, kind="stable"):
            begin, end = int(first[best]), int(last[best])
            if len(np.unique(tokens[begin:end])) < FEWEST_TOKENS:
                continue
            owner, moved = int(clip[which[best]]), int(offset[which[best]])
            return SharedTokens(
                seconds=float(worth[best]) / FRAME_RATE_HZ,
                whole_seconds=(end - begin) / FRAME_RATE_HZ,
                clip=self.names[owner],
                clip_start_seconds=(begin + moved) / FRAME_RATE_HZ,
                piece_start_seconds=begin / FRAME_RATE_HZ,
            )
        return None

    def _alignments(self, own: _Stretches) -> tuple[np.ndarray, np.ndarray]:
        """Clips and how far a piece is moved along them where a triple agrees, int64 [pair]."""
        low = np.searchsorted(self._hashes, own.hashes, side="left")
        high = np.searchsorted(self._hashes, own.hashes, side="right")
        total = high - low
        mine = np.repeat(own.places, total)
        begins = np.repeat(np.cumsum(total) - total, total)
        theirs = self._places[np.arange(len(mine)) - begins + np.repeat(low, total)]
        frames = self.tokens.shape[1]
        pairs = np.stack([theirs // frames, theirs % frames - mine], axis=1)
        pairs = np.unique(pairs, axis=0)
        return pairs[:, 0], pairs[:, 1]

    def _runs(
        self, tokens: np.ndarray, clip: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Maximal equal runs along alignments: (number of the alignment among those given, first
        frame in the piece, the frame after the last), int64 [run] each."""
        same = self._same(tokens, clip, offset)
        padded = np.zeros((len(clip), same.shape[1] + 2), dtype=np.int8)
        padded[:, 1:-1] = same
        turn = np.diff(padded, axis=1)
        which, first = np.nonzero(turn == 1)
        _, last = np.nonzero(turn == -1)
        long = last - first >= FEWEST_TOKENS
        which, first, last = which[long], first[long], last[long]
        return which, first - offset[which], last - offset[which]

    def _same(self, tokens: np.ndarray, clip: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Whether the frames of clips equal those of a piece, bool [alignment, clip's frame]."""
        place = np.arange(self.tokens.shape[1]) - offset[:, None]
        inside = (place >= 0) & (place < len(tokens))
        return inside & (self.tokens[clip] == tokens[place.clip(0, len(tokens) - 1)])

    def best_agreement(self, tokens: np.ndarray) -> Agreement | None:
        """The five seconds of tokens [frame] that have most frames in common with five of a clip,
        at one alignment."""
        tokens, best = tokens.astype(np.int64), None
        hop = _BLOCK - AGREEMENT_FRAMES
        for start in range(0, max(len(tokens) - AGREEMENT_FRAMES, 1), hop):
            found = self._agreement(tokens[start : start + _BLOCK], start)
            if found is not None and (best is None or found.share > best.share):
                best = found
        return best

    def _agreement(self, tokens: np.ndarray, start: int) -> Agreement | None:
        """The same of a part of a piece that begins at the frame `start`."""
        if not len(tokens):
            return None
        own = _stretches(tokens[None])
        counts = np.arange(len(tokens)) - np.repeat(own.begin, own.length) < HELD_FRAMES
        masked = np.where(counts, tokens, -1)  # no clip has this token
        equal = self._equal_frames(masked)
        reach = self.tokens.shape[1] + len(tokens)
        most, best, bar, above = 0, None, int(equal.max()), np.inf
        # Alignments with the most equal frames first: the others cannot have more in five seconds.
        while most < above - 1 and above > FEWEST_TOKENS:
            some = np.flatnonzero((equal >= max(bar, FEWEST_TOKENS)) & (equal < above))
            some = some[np.argsort(-equal[some], kind="stable")]
            for first in range(0, len(some), _CHUNK):
                part = some[first : first + _CHUNK]
                if equal[part[0]] <= most:
                    break
                clip, offset = part // reach, part % reach - len(tokens)
                found = self._densest(masked, clip, offset, most)
                if found is not None:
                    most, which, place = found
                    best = clip[which], place, place - offset[which]
            above, bar = max(bar, FEWEST_TOKENS), bar // 2
        if best is None:
            return None
        return Agreement(
            share=most / AGREEMENT_FRAMES,
            clip=self.names[best[0]],
            clip_start_seconds=float(best[1]) / FRAME_RATE_HZ,
            piece_start_seconds=float(best[2] + start) / FRAME_RATE_HZ,
        )

    def _equal_frames(self, tokens: np.ndarray) -> np.ndarray:
        """Equal frames at every alignment: int64 [clip * (frames of a clip + of the piece)], where
        entry `clip * both + len(tokens) + offset` is a piece moved by `offset` along a clip."""
        frames, both = self.tokens.shape[1], self.tokens.shape[1] + len(tokens)
        mine = np.flatnonzero((tokens >= 0) & (tokens < len(self._token_begins) - 1))
        low, high = self._token_begins[tokens[mine]], self._token_begins[tokens[mine] + 1]
        total = high - low
        begins = np.repeat(np.cumsum(total) - total - low, total)
        theirs = self._by_token[np.arange(len(begins)) - begins].astype(np.int64)
        place = theirs // frames * both + theirs % frames + len(tokens) - np.repeat(mine, total)
        return np.bincount(place, minlength=len(self) * both)

    def _densest(
        self, tokens: np.ndarray, clip: np.ndarray, offset: np.ndarray, most: int
    ) -> tuple[int, int, int] | None:
        """The five seconds with more than `most` equal frames: (their number, the alignment's
        number, the first equal frame in the clip); None where there are none that count."""
        same = self._same(tokens, clip, offset)
        total = np.zeros((len(clip), same.shape[1] + AGREEMENT_FRAMES), dtype=np.int32)
        total[:, 1 : same.shape[1] + 1] = same.cumsum(axis=1)[:, : total.shape[1] - 1]
        total[:, same.shape[1] :] = total[:, same.shape[1], None]
        inside = total[:, AGREEMENT_FRAMES:] - total[:, :-AGREEMENT_FRAMES]
        densest = inside.max(axis=1)
        for which in np.argsort(-densest, kind="stable"):
            if densest[which] <= most:
                return None
            begin = int(inside[which].argmax())
            places = begin + np.flatnonzero(same[which, begin : begin + AGREEMENT_FRAMES])
            if len(np.unique(self.tokens[clip[which], places])) >= FEWEST_TOKENS:
                return int(densest[which]), int(which), int(places[0])
        return None

    def write(self, path: Path) -> None:
        """Writes one file, whole or not at all: tokens and names compressed, vectors as int8 rows.

        About 700 bytes a clip of 20 s. Errors as `melisma.files.atomic.replacing`.
        """
        clips, windows, width = self.vectors.shape
        checkpoint = Checkpoint(
            kind=KIND,
            settings={"clips": clips, "frames": self.tokens.shape[1], "windows": windows},
            tensors={
                "tokens": packed(self.tokens.astype("<u2").tobytes()),
                "names": packed("\n".join(self.names).encode()),
                "vectors": torch.from_numpy(self.vectors).reshape(clips * windows, width),
            },
            fingerprints=self.fingerprints,
            notes={"limits": [asdict(limit) for limit in self.limits]},
        )
        write_checkpoint(path, checkpoint, precision="int8")

    @classmethod
    def read(cls, path: Path, fingerprints: Mapping[str, str] | None = None) -> ClipIndex:
        """Reads what `write` wrote. `ValueError` where it is no index, or where `fingerprints`, of
        the tokenizers that are present, are not those that it was built with."""
        checkpoint = read_checkpoint(path, kind=KIND)
        for name, built in checkpoint.fingerprints.items():
            present = (fingerprints or {}).get(name, built)
            if present != built:
                raise ValueError(
                    f"{path} holds what the {name} {built} heard, but the {name} here is "
                    f"{present}: build it again with `melisma train index`"
                )
        try:
            clips, frames, windows = (
                int(checkpoint.settings[name]) for name in ("clips", "frames", "windows")
            )
            tokens = unpacked(checkpoint.tensors["tokens"], clips * frames * 2)
            names = unpacked(checkpoint.tensors["names"], clips * 2_000)
            return cls(
                names.decode().split("\n"),
                np.frombuffer(tokens, dtype="<u2").reshape(clips, frames),
                checkpoint.tensors["vectors"].reshape(clips, windows, -1).numpy(),
                checkpoint.fingerprints,
                [Limit(**limit) for limit in checkpoint.notes["limits"]],
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is a damaged index: build it again") from error


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The same vectors of length 1, float32; zeros stay."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-9)
