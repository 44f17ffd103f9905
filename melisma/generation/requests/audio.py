"""Requests for audio: a pipeline runs them, results are mastered and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from melisma.files.audio import LOSSY_ENDINGS, audio_ending
from melisma.files.audio.writing import coded_blocks, write_audio_blocks
from melisma.files.names import replaced_paths
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.seam import Seam
from melisma.generation.conditioning.understanding import Understanding
from melisma.generation.pipeline import AudioPiece, AudioPipeline, Progress
from melisma.generation.ranking import RECEIPT_SECONDS, SCALES
from melisma.generation.requests.provenance import provenance_of
from melisma.generation.requests.request import GenerationRequest, Result, run
from melisma.sound.long_mastering import master_stored, stored_lufs, stored_true_peak_db
from melisma.sound.mastering import CEILING_DB
from melisma.sound.stored import StoredSound
from melisma.values import Prompt, Waveform

AudioRequest = GenerationRequest[Prompt, AudioConditions]

_CODING_ROUNDS = 6
"""Attempts to keep a lossy file below the ceiling; each lowers it by what exceeded it before."""
_SCALED_DOWN = "the cross-fade was too loud: the whole piece was scaled down by {:.1f} dB"


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
    def finished(self) -> tuple[StoredSound, Seam | None]:
        """The sound as it is written, and how it was fitted to the recording that it continues."""
        return self.piece.finished()

    @property
    def waveform(self) -> Waveform:
        """The mastered sound, in memory; of a continuation with the recording before it."""
        return self.finished[0].waveform

    @property
    def conditions(self) -> dict[str, str]:
        """What the model was conditioned on, in words."""
        return self.piece.conditions

    @property
    def understanding(self) -> Understanding:
        """What of the prompt was understood, what was not, and what was chosen freely."""
        return self.piece.understanding

    @property
    def receipt(self) -> dict[str, object]:
        """What is measured of the mastered sound against what its words state, as JSON values."""
        return self._receipt(self.finished[0])

    def _receipt(self, sound: StoredSound) -> dict[str, object]:
        from melisma.analysis.receipt import receipt_of_sound  # it needs much of scipy

        detected = self._pipeline.detect_families(self.piece.sound)
        # Without what precedes the kept part of a recording; of a long piece the beginning.
        start = max(sound.length - round(self._piece_seconds * sound.rate_hz), 0)
        stop = min(start + round(RECEIPT_SECONDS * sound.rate_hz), sound.length)
        measured = Waveform(samples=sound.read(start, stop), rate_hz=sound.rate_hz)
        return receipt_of_sound(measured, self.piece.stated, detected, self.piece.absent).as_json()

    @property
    def _piece_seconds(self) -> float:
        """Length of the new music and of the part of a recording that it was conditioned on."""
        context = self._request.context
        kept = None if context is None else context.beginning
        return self.piece.prompt.duration_seconds + (0.0 if kept is None else kept.seconds)

    def plot(self, path: Path | str) -> None:
        """Writes a picture of waveform and spectrogram (PNG)."""
        self._plot(path, self.finished[0])

    def _plot(self, path: Path | str, sound: StoredSound) -> None:
        from melisma.analysis.plots.spectrogram import plot_sound

        plot_sound(sound.waveform, Path(path), self.piece.prompt.words)

    def save(
        self,
        path: Path | str,
        *,
        plot: Path | str | None = None,
        ending: str | None = None,
        replace: bool = True,
    ) -> dict[str, object]:
        """Writes the sound as WAV, FLAC, MP3 or OGG by the ending, with its provenance.

        Args:
            path: The file, or a pipe or device.
            plot: Also a picture of waveform and spectrogram (PNG).
            ending: Selects the format where the name of a pipe or device does not, e.g. ".ogg".
            replace: Whether a file that exists is replaced; otherwise it is a `FileExistsError`.

        Returns:
            The row of the JSON receipt.

        Raises:
            MelismaError: The ending is unknown.
            OSError: A file could not be written.
        """
        path, piece = Path(path), self.piece
        ending = audio_ending(path, ending)
        sound, seam = self._finished_for(ending)
        replaced = replaced_paths(path, None if plot is None else Path(plot))
        write_audio_blocks(
            path,
            sound.blocks(),
            rate_hz=sound.rate_hz,
            channels=sound.channels,
            provenance=self.provenance,
            ending=ending,
            replace=replace,
        )
        if plot is not None:
            self._plot(plot, sound)
        lufs = stored_lufs(sound)
        peak_db = stored_true_peak_db(sound)
        row: dict[str, object] = {
            "path": str(path),
            "replaced": replaced,
            "plot": None if plot is None else str(plot),
            "prompt": piece.prompt.words,
            "seed": piece.seed,
            "seconds": round(sound.seconds, 3),
            "rate_hz": sound.rate_hz,
            "similarity": None if piece.similarity is None else round(piece.similarity, 4),
            "candidates": [round(candidate, 4) for candidate in piece.candidates],
            "scales": SCALES,
            "conditions": piece.conditions,
            "loudness_lufs": None if lufs is None else round(lufs, 2),
            "true_peak_db": round(peak_db, 2) if lufs is not None else None,
        }
        if self._request.context is not None:
            row["remarks"] = _remarks(self._request.context, seam)
        if seam is not None:
            row["seam"] = seam.as_json()
        row |= piece.understanding.as_json()
        row |= self.made_by()
        if self._request.receipt:
            row["receipt"] = self._receipt(sound)
        if self.original is not None:
            row["original"] = dict(self.original)
        return row

    def _finished_for(self, ending: str) -> tuple[StoredSound, Seam | None]:
        """The sound for a file of this ending. Of a continuation the recording stays as it is."""
        context = self.piece.context
        continues = context is not None and context.beginning is not None
        if continues or ending.lower() not in LOSSY_ENDINGS:
            return self.finished
        return mastered_for(self.piece.sound, ending), None


def _remarks(context: AudioConditions, seam: Seam | None) -> list[str]:
    """Sentences about the recordings that were given, and about how one was fitted."""
    if seam is None or not seam.scaled_db:
        return list(context.remarks)
    return [*context.remarks, _SCALED_DOWN.format(-seam.scaled_db)]


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
        "without": list(prompt.without),
        "sampling": dict(pipeline.resolve_sampling(request.sampling)),
        **request.notes,
    }


def mastered_for(raw: StoredSound, ending: str) -> StoredSound:
    """The sound mastered so that its true peak keeps below the ceiling in a file of this ending.

    Args:
        raw: As decoded.
        ending: Of the file, e.g. ".mp3": lossy coding raises some peaks.
    """
    sound = master_stored(raw)
    if ending.lower() not in LOSSY_ENDINGS:
        return sound
    ceiling_db = CEILING_DB
    for _ in range(_CODING_ROUNDS):
        coded = coded_blocks(sound.blocks(), sound.rate_hz, sound.channels, ending)
        over_db = stored_true_peak_db(StoredSound.of_blocks(coded)) - CEILING_DB
        if over_db < 0:
            break
        ceiling_db -= over_db + 0.1
        sound = master_stored(raw, ceiling_db=ceiling_db)
    return sound
