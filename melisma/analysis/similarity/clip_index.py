"""Index of training clips: exact search for shared token runs, agreement and similarity.

For a piece it finds the longest run of semantic tokens shared with a clip, the five seconds that
agree best, and the most similar clip in the joint embedding.

Follows the two criteria of MusicLM's memorisation study (2301.11325, section 4.3): exact matches of
a token sequence, and approximate matches. Here they are applied to *any* piece, and the search is
exact. For runs, trigrams of segments (a token with its duration) are hashed and sorted, found by
bisection and extended to both ends; no run that counts can be missed, because it contains three
complete segments. For agreement, equal frames are counted at every alignment.

Most frames repeat the previous one, and sustained notes and rests occur everywhere. A run or an
agreement therefore counts only with at least `MIN_DISTINCT_TOKENS` different tokens, and at most
`HELD_FRAMES` frames of each segment of one token count.

Tokens sampled by a model reveal a copy exactly. Audio that passed through a codec is encoded with
half of its frames changed: of 32 such copies of clips, runs find 5 and agreement 27 (measured).

Inputs: first-level semantic tokens at 25 Hz and joint vectors of windows of 10 s. Output: a
`Resemblance`, with limits from held-out real clips (`clip_limits.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from melisma.analysis.similarity.compression import compress, decompress
from melisma.files.checkpoint import Checkpoint, read_checkpoint, tensor_of, write_checkpoint
from melisma.files.typed_json import typed
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

KIND = "originality"
"""Kind of its checkpoint, and name of its file in a model's folder."""
MIN_DISTINCT_TOKENS = 5
"""Minimum number of different tokens in a run (chosen: a second of real music has a median of 6);
five imply three complete segments, which is what the search hashes."""
HELD_FRAMES = 10
"""Maximum number of frames that count in a segment of one token (chosen: .4 s)."""
AGREEMENT_FRAMES = 125
"""Window length of an agreement: 5 s, as in the study."""
LIMIT_SHARE = 0.99
"""Quantile of real, independent clips that defines a limit."""
_NGRAM = 3
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_CHUNK = 4_096
_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Similarity that independent music of one length rarely exceeds."""

    piece_seconds: float
    """Length of the pieces."""
    run_seconds: float
    """`LIMIT_SHARE` quantile of the longest run."""
    agreement: float
    """`LIMIT_SHARE` quantile of the share of equal frames in 5 s."""
    similarity: float
    """`LIMIT_SHARE` quantile of the cosine similarity."""
    pieces: int
    """Number of real held-out pieces; concatenated ones each count once."""


@dataclass(frozen=True, kw_only=True)
class SharedTokens:
    """The longest run of tokens that a piece shares with a clip."""

    seconds: float
    """Counted length: at most `HELD_FRAMES` of a repeated token."""
    whole_seconds: float
    """Length from end to end."""
    clip: str
    """Name of the clip."""
    clip_start_seconds: float
    """Start of the run in the clip."""
    piece_start_seconds: float
    """Start of the run in the piece."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The five seconds of a piece that agree best with five seconds of a clip."""

    share: float
    """Share of equal frames that count: at most `HELD_FRAMES` of a repeated token."""
    clip: str
    """Name of the clip."""
    clip_start_seconds: float
    """Time of the first equal frame in the clip."""
    piece_start_seconds: float
    """Time of the first equal frame in the piece."""


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """Similarity of a piece to the clips of an index."""

    run: SharedTokens | None
    """None if no run counts."""
    agreement: Agreement | None
    """None if no agreement counts."""
    similarity: float
    """Maximum cosine similarity between a window of the piece and one of a clip."""
    similar_clip: str
    """Name of that clip."""
    limit: Limit | None
    """Limit for pieces of this length; None if none was measured."""

    @property
    def run_seconds(self) -> float:
        """Counted length of the run; 0 without one."""
        return 0.0 if self.run is None else self.run.seconds

    @property
    def equal_share(self) -> float:
        """Share of equal frames in the best five seconds; 0 without an agreement."""
        return 0.0 if self.agreement is None else self.agreement.share

    @property
    def excess(self) -> float:
        """The greatest of the three measures relative to its limit.

        Raises:
            MelismaError: for an index without limits.
        """
        if self.limit is None:
            raise MelismaError(
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
        """Whether any limit is exceeded; `MelismaError` for an index without limits."""
        return self.excess > 1.0


@dataclass(frozen=True, kw_only=True)
class _Segments:
    """Run-length encoding of concatenated clips of equal length."""

    begin: np.ndarray
    """First frame of each segment of one token, int64 [segment]."""
    length: np.ndarray
    """Frames of each segment, int64 [segment]."""
    hashes: np.ndarray
    """Hash of every trigram of complete segments inside one clip, uint64 [trigram]."""
    positions: np.ndarray
    """First frame of each trigram, int64 [trigram]."""


def _segments(tokens: np.ndarray) -> _Segments:
    """Segments of tokens [clip, frame] and the hashes of their trigrams."""
    flat = tokens.reshape(-1).astype(np.uint64)
    frames = tokens.shape[1]
    edge = np.arange(len(flat)) % frames == 0
    begin = np.flatnonzero(edge | np.append(True, flat[1:] != flat[:-1]))
    length = np.diff(np.append(begin, len(flat)))
    # The first and the last segment of a clip may be truncated: their length is unknown.
    complete = ~edge[begin] & ((begin + length) % frames != 0)
    code = (flat[begin] << np.uint64(32)) | length.astype(np.uint64)
    count = max(len(begin) - _NGRAM + 1, 0)
    value, kept = np.zeros(count, dtype=np.uint64), np.ones(count, dtype=bool)
    for offset, factor in enumerate(_FACTORS):
        part = code[offset : offset + count]
        value = (value ^ (part * factor)) * factor
        value ^= value >> np.uint64(29)
        kept &= complete[offset : offset + count]
    return _Segments(begin=begin, length=length, hashes=value[kept], positions=begin[:count][kept])


class ClipIndex:
    """Tokens and joint vectors of many clips, with exact search."""

    def __init__(
        self,
        names: Sequence[str],
        tokens: np.ndarray,
        vectors: np.ndarray,
        fingerprints: Mapping[str, str],
        limits: Sequence[Limit] = (),
    ) -> None:
        """Builds the index.

        Args:
            names: name of each clip.
            tokens: first-level semantic tokens, [clip, frame].
            vectors: joint vectors, [clip, window, width]; they are normalised.
            fingerprints: fingerprints of the tokenizers that computed both.
            limits: limits of similarity, see `clip_limits`.

        Raises:
            MelismaError: if the shapes do not match.
        """
        if tokens.ndim != 2 or not tokens.size or vectors.ndim != 3 or not vectors.size:
            raise MelismaError(
                "an index needs tokens [clip, frame] and vectors [clip, window, width], "
                f"not {tokens.shape} and {vectors.shape}"
            )
        if not len(names) == len(tokens) == len(vectors):
            raise MelismaError(
                f"{len(names)} names, {len(tokens)} clips of tokens and {len(vectors)} of vectors: "
                "give one of each for every clip"
            )
        if any("\n" in name for name in names):
            raise MelismaError("the name of a clip has one line")
        self.names = tuple(names)
        self.tokens = np.ascontiguousarray(tokens, dtype=np.uint16)
        self.vectors = _unit(vectors)
        self.fingerprints = dict(fingerprints)
        self.limits = tuple(sorted(limits, key=lambda limit: limit.piece_seconds))
        found = _segments(self.tokens)
        order = np.argsort(found.hashes, kind="stable")
        self._hashes, self._positions = found.hashes[order], found.positions[order]
        flat = self.tokens.reshape(-1)
        self._by_token = np.argsort(flat, kind="stable").astype(np.int32)
        highest = int(flat.max()) + 1
        self._token_begins = np.searchsorted(flat[self._by_token], np.arange(highest + 1))

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, tokens: np.ndarray, vectors: np.ndarray) -> Resemblance:
        """Compares a piece with all clips.

        Args:
            tokens: first-level semantic tokens, [frame].
            vectors: joint vectors, [window, width]. Those in the index are reconstructed from
                style tokens, so pass `joint.dequantise(joint.quantise(vectors))`.

        Raises:
            MelismaError: for other shapes.
        """
        width = self.vectors.shape[2]
        if tokens.ndim != 1 or vectors.ndim != 2 or vectors.shape[1] != width or not len(vectors):
            raise MelismaError(
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
            limit=self.limit_for(len(tokens) / FRAME_RATE_HZ),
        )

    def limit_for(self, piece_seconds: float) -> Limit | None:
        """The limit of the next longer measured length.

        A piece longer than all of these is compared with the limit of the longest, which
        independent music of its length exceeds more often.
        """
        for limit in self.limits:
            if piece_seconds <= limit.piece_seconds:
                return limit
        return self.limits[-1] if self.limits else None

    def longest_run(self, tokens: np.ndarray) -> SharedTokens | None:
        """The longest run of tokens [frame] shared with a clip that counts; None without one."""
        tokens = tokens.astype(np.int64)
        if not len(tokens):
            return None
        own = _segments(tokens[None])
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
        # The first segment may begin before the run: it counts from the beginning of the run.
        edge = np.minimum(ends[first], last)
        counted_length = np.minimum(edge - first, HELD_FRAMES) + counted[last] - counted[edge]
        for best in np.argsort(-counted_length, kind="stable"):
            begin, end = int(first[best]), int(last[best])
            if len(np.unique(tokens[begin:end])) < MIN_DISTINCT_TOKENS:
                continue
            owner, moved = int(clip[which[best]]), int(offset[which[best]])
            return SharedTokens(
                seconds=float(counted_length[best]) / FRAME_RATE_HZ,
                whole_seconds=(end - begin) / FRAME_RATE_HZ,
                clip=self.names[owner],
                clip_start_seconds=(begin + moved) / FRAME_RATE_HZ,
                piece_start_seconds=begin / FRAME_RATE_HZ,
            )
        return None

    def _alignments(self, own: _Segments) -> tuple[np.ndarray, np.ndarray]:
        """Clips, and offsets of a piece along them where a trigram matches, int64 [pair] each."""
        low = np.searchsorted(self._hashes, own.hashes, side="left")
        high = np.searchsorted(self._hashes, own.hashes, side="right")
        total = high - low
        query = np.repeat(own.positions, total)
        begins = np.repeat(np.cumsum(total) - total, total)
        reference = self._positions[np.arange(len(query)) - begins + np.repeat(low, total)]
        frames = self.tokens.shape[1]
        pairs = np.stack([reference // frames, reference % frames - query], axis=1)
        pairs = np.unique(pairs, axis=0)
        return pairs[:, 0], pairs[:, 1]

    def _runs(
        self, tokens: np.ndarray, clip: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Maximal runs of equal frames along alignments.

        Returns:
            Index of the alignment, first frame in the piece, last frame + 1; int64 [run] each.
        """
        same = self._same(tokens, clip, offset)
        padded = np.zeros((len(clip), same.shape[1] + 2), dtype=np.int8)
        padded[:, 1:-1] = same
        turn = np.diff(padded, axis=1)
        which, first = np.nonzero(turn == 1)
        _, last = np.nonzero(turn == -1)
        long = last - first >= MIN_DISTINCT_TOKENS
        which, first, last = which[long], first[long], last[long]
        return which, first - offset[which], last - offset[which]

    def _same(self, tokens: np.ndarray, clip: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Whether the frames of clips equal those of a piece, bool [alignment, clip frame]."""
        piece_frame = np.arange(self.tokens.shape[1]) - offset[:, None]
        inside = (piece_frame >= 0) & (piece_frame < len(tokens))
        return inside & (self.tokens[clip] == tokens[piece_frame.clip(0, len(tokens) - 1)])

    def best_agreement(self, tokens: np.ndarray) -> Agreement | None:
        """The five seconds of tokens [frame] with most frames equal to a clip at one alignment."""
        tokens, best = tokens.astype(np.int64), None
        hop = _BLOCK - AGREEMENT_FRAMES
        for start in range(0, max(len(tokens) - AGREEMENT_FRAMES, 1), hop):
            found = self._agreement(tokens[start : start + _BLOCK], start)
            if found is not None and (best is None or found.share > best.share):
                best = found
        return best

    def _agreement(self, tokens: np.ndarray, start: int) -> Agreement | None:
        """`best_agreement` of an excerpt of a piece that begins at frame `start`."""
        if not len(tokens):
            return None
        own = _segments(tokens[None])
        counts = np.arange(len(tokens)) - np.repeat(own.begin, own.length) < HELD_FRAMES
        masked = np.where(counts, tokens, -1)  # no clip has this token
        equal = self._equal_frames(masked)
        reach = self.tokens.shape[1] + len(tokens)
        most, best, threshold, above = 0, None, int(equal.max()), np.inf
        # Alignments with the most equal frames first: others cannot have more in five seconds.
        while most < above - 1 and above > MIN_DISTINCT_TOKENS:
            some = np.flatnonzero((equal >= max(threshold, MIN_DISTINCT_TOKENS)) & (equal < above))
            some = some[np.argsort(-equal[some], kind="stable")]
            for first in range(0, len(some), _CHUNK):
                part = some[first : first + _CHUNK]
                if equal[part[0]] <= most:
                    break
                clip, offset = part // reach, part % reach - len(tokens)
                found = self._densest(masked, clip, offset, most)
                if found is not None:
                    most, which, clip_frame = found
                    best = clip[which], clip_frame, clip_frame - offset[which]
            above, threshold = max(threshold, MIN_DISTINCT_TOKENS), threshold // 2
        if best is None:
            return None
        return Agreement(
            share=most / AGREEMENT_FRAMES,
            clip=self.names[best[0]],
            clip_start_seconds=float(best[1]) / FRAME_RATE_HZ,
            piece_start_seconds=float(best[2] + start) / FRAME_RATE_HZ,
        )

    def _equal_frames(self, tokens: np.ndarray) -> np.ndarray:
        """Number of equal frames at every alignment.

        Returns:
            int64 [clip * (clip frames + piece frames)]; entry `clip * both + len(tokens) + offset`
            is the piece moved by `offset` along a clip.
        """
        frames, both = self.tokens.shape[1], self.tokens.shape[1] + len(tokens)
        query = np.flatnonzero((tokens >= 0) & (tokens < len(self._token_begins) - 1))
        low, high = self._token_begins[tokens[query]], self._token_begins[tokens[query] + 1]
        total = high - low
        begins = np.repeat(np.cumsum(total) - total - low, total)
        reference = self._by_token[np.arange(len(begins)) - begins].astype(np.int64)
        alignment = (
            reference // frames * both + reference % frames + len(tokens) - np.repeat(query, total)
        )
        return np.bincount(alignment, minlength=len(self) * both)

    def _densest(
        self, tokens: np.ndarray, clip: np.ndarray, offset: np.ndarray, most: int
    ) -> tuple[int, int, int] | None:
        """The five seconds with the most equal frames, if more than `most`.

        Returns:
            Number of equal frames, index of the alignment, first equal frame in the clip; None if
            no window counts.
        """
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
            positions = begin + np.flatnonzero(same[which, begin : begin + AGREEMENT_FRAMES])
            if len(np.unique(self.tokens[clip[which], positions])) >= MIN_DISTINCT_TOKENS:
                return int(densest[which]), int(which), int(positions[0])
        return None

    def write(self, path: Path) -> None:
        """Writes one file atomically: tokens and names compressed, vectors as int8 rows.

        About 700 bytes per clip of 20 s. Errors as `melisma.files.atomic.atomic_write`.
        """
        clips, windows, width = self.vectors.shape
        checkpoint = Checkpoint(
            kind=KIND,
            settings={"clips": clips, "frames": self.tokens.shape[1], "windows": windows},
            tensors={
                "tokens": compress(self.tokens.astype("<u2").tobytes()),
                "names": compress("\n".join(self.names).encode()),
                "vectors": torch.from_numpy(self.vectors).reshape(clips * windows, width),
            },
            fingerprints=self.fingerprints,
            notes={"limits": [asdict(limit) for limit in self.limits]},
        )
        write_checkpoint(path, checkpoint, precision="int8")

    @classmethod
    def read(cls, path: Path, fingerprints: Mapping[str, str] | None = None) -> ClipIndex:
        """Reads the result of `write`.

        Args:
            path: the file.
            fingerprints: fingerprints of the present tokenizers; None skips the check.

        Raises:
            MelismaError: if it is not an index, or was built with other tokenizers.
        """
        checkpoint = read_checkpoint(path, kind=KIND)
        for name, built in checkpoint.fingerprints.items():
            present = (fingerprints or {}).get(name, built)
            if present != built:
                raise MelismaError(
                    f"{path} was made with the {name} {built}, but the {name} here is "
                    f"{present}: build it again with `melisma train index`"
                )
        try:
            clips, frames, windows = (
                typed(checkpoint.settings.get(name), int, name)
                for name in ("clips", "frames", "windows")
            )
            packed, titles = (
                tensor_of(checkpoint, name, (None,), torch.uint8) for name in ("tokens", "names")
            )
            tokens = decompress(packed, clips * frames * 2)
            names = decompress(titles, clips * 2_000)
            vectors = tensor_of(checkpoint, "vectors", (clips * windows, None))
            return cls(
                names.decode().split("\n"),
                np.frombuffer(tokens, dtype="<u2").reshape(clips, frames),
                vectors.numpy().reshape(clips, windows, -1),
                checkpoint.fingerprints,
                typed(checkpoint.notes.get("limits"), list[Limit], "limits"),
            )
        except ValueError as error:  # of our checks and of NumPy's
            raise MelismaError(f"{path} is a damaged index: build it again") from error


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Normalises vectors to unit length, float32; zeros stay zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-9)
