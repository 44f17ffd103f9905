"""Requests for audio: a pipeline runs them, results are mastered and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from melisma.files import write_audio
from melisma.files.audio import LOSSY_ENDINGS, encode_and_decode
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.pipeline import AudioPiece, AudioPipeline, Progress
from melisma.generation.requests.provenance import provenance_of
from melisma.generation.requests.request import GenerationRequest, Result, run
from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.sound.mastering import CEILING_DB, master
from melisma.values import Prompt, Waveform

AudioRequest = GenerationRequest[Prompt, AudioConditions]

_CODING_ROUNDS = 6
"""Attempts to keep a lossy file below the ceiling; each lowers it by what exceeded it before."""


class AudioResult(Result[AudioPiece]):
    """A generated piece of audio."""

    def __init__(
        self,
        piece: AudioPiece,
        pipeline: AudioPipeline,
        request: AudioRequest,
        original: Mapping[str, object] | None = None,
    ) -> None:
        """
        Args:
            piece: What the pipeline made.
            pipeline: The model.
            request: What was requested.
            original: What the originality check found.
        """
        settings = audio_settings(pipeline, request, piece.prompt) | {
            "best_of": pipeline.best_of if request.best_of is None else request.best_of,
            "rank": request.rank,
            "conditions": piece.conditions,
        }
        provenance = provenance_of(pipeline, piece.prompt.words, piece.seed, settings)
        super().__init__(piece, provenance=provenance, settings=settings, original=original)
        self._pipeline, self._request = pipeline, request

    @cached_property
    def waveform(self) -> Waveform:
        """The mastered sound."""
        return master(self.piece.waveform)

    @property
    def conditions(self) -> dict[str, str]:
        """What the model was conditioned on, in words."""
        return self.piece.conditions

    @property
    def receipt(self) -> dict[str, object]:
        """What is measured of the mastered sound against what its words state, as JSON values."""
        return self._receipt(self.waveform)

    def _receipt(self, sound: Waveform) -> dict[str, object]:
        from melisma.analysis.receipt import receipt_of_sound  # it needs much of scipy

        detected = self._pipeline.detect_families(self.piece.waveform)
        return receipt_of_sound(sound, self.piece.stated, detected).as_json()

    def plot(self, path: Path | str, sound: Waveform | None = None) -> None:
        """Writes a picture of waveform and spectrogram (PNG)."""
        from melisma.analysis.plots.spectrogram import plot_sound

        plot_sound(sound or self.waveform, Path(path), self.piece.prompt.words)

    def save(self, path: Path | str, *, plot: Path | str | None = None) -> dict[str, object]:
        """Writes the sound as WAV, FLAC, MP3 or OGG by the ending, with its provenance.

        Args:
            path: The file.
            plot: Also a picture of waveform and spectrogram (PNG).

        Returns:
            The row of the JSON receipt.

        Raises:
            MelismaError: The ending is unknown.
        """
        path, piece = Path(path), self.piece
        sound = mastered_for(piece.waveform, path.suffix)
        write_audio(path, sound, self.provenance)
        if plot is not None:
            self.plot(plot, sound)
        lufs = integrated_lufs(sound)
        peak_db = true_peak_db(sound)
        row: dict[str, object] = {
            "path": str(path),
            "plot": None if plot is None else str(plot),
            "prompt": piece.prompt.words,
            "seed": piece.seed,
            "seconds": round(sound.seconds, 3),
            "rate_hz": sound.rate_hz,
            "similarity": None if piece.similarity is None else round(piece.similarity, 4),
            "candidates": [round(candidate, 4) for candidate in piece.candidates],
            "conditions": piece.conditions,
            "loudness_lufs": None if lufs is None else round(lufs, 2),
            "true_peak_db": round(peak_db, 2) if lufs is not None else None,
        }
        row |= self.made_by()
        if self._request.receipt:
            row["receipt"] = self._receipt(sound)
        if self.original is not None:
            row["original"] = dict(self.original)
        return row


def run_audio(
    pipeline: AudioPipeline, request: AudioRequest, progress: Progress | None = None
) -> Iterator[AudioResult]:
    """Runs a request for audio, see `run`."""

    def make(piece: AudioPiece, original: Mapping[str, object] | None) -> AudioResult:
        return AudioResult(piece, pipeline, request, original)

    return run(pipeline, request, make, progress)


def audio_settings(
    pipeline: AudioPipeline, request: AudioRequest, prompt: Prompt
) -> dict[str, object]:
    """How a piece is made, fit for JSON: what its file says of itself."""
    return {
        "duration_seconds": prompt.duration_seconds,
        "tempo_bpm": prompt.tempo_bpm,
        "tonality": prompt.tonality,
        "metre": prompt.metre,
        "sampling": dict(pipeline.resolve_sampling(request.sampling)),
        **request.notes,
    }


def mastered_for(raw: Waveform, ending: str) -> Waveform:
    """The sound mastered so that its true peak keeps below the ceiling in a file of this ending.

    Args:
        raw: As decoded.
        ending: Of the file, e.g. ".mp3": lossy coding raises some peaks.
    """
    sound = master(raw)
    if ending.lower() not in LOSSY_ENDINGS:
        return sound
    ceiling_db = CEILING_DB
    for _ in range(_CODING_ROUNDS):
        over_db = true_peak_db(encode_and_decode(sound, ending)) - CEILING_DB
        if over_db < 0:
            break
        ceiling_db -= over_db + 0.1
        sound = master(raw, ceiling_db=ceiling_db)
    return sound
