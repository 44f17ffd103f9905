"""Requests for scores: a pipeline runs them, results are written as MIDI, sound and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from melisma.files import write_bytes
from melisma.generation.pipeline import Progress
from melisma.generation.requests.provenance import provenance_of
from melisma.generation.requests.render import RenderRequest, run_render
from melisma.generation.requests.request import GenerationRequest, Result, run
from melisma.generation.score.pipeline import ScoreContext, ScorePiece, ScorePipeline
from melisma.symbolic import write_midi
from melisma.symbolic.events import bars_of
from melisma.symbolic.tags import write_midi_tags
from melisma.values import Score
from melisma.values.score_prompt import ScorePrompt

ScoreRequest = GenerationRequest[ScorePrompt, ScoreContext]


class ScoreResult(Result[ScorePiece]):
    """A generated score."""

    def __init__(
        self,
        piece: ScorePiece,
        pipeline: ScorePipeline,
        request: ScoreRequest,
        original: Mapping[str, object] | None = None,
    ) -> None:
        """
        Args:
            piece: What the pipeline made.
            pipeline: The model.
            request: What was requested.
            original: What the originality check found.
        """
        context = request.context or ScoreContext()
        settings: dict[str, object] = {
            "settings": {k: v for k, v in asdict(piece.prompt).items() if k != "words"},
            "best_of": pipeline.best_of if request.best_of is None else request.best_of,
            "sampling": dict(pipeline.resolve_sampling(request.sampling)),
            "conditions": piece.conditions,
            "continue_from": request.notes.get("continue_from"),
            "infill": context.infill_bars,
            "melody": request.notes.get("melody"),
        }
        provenance = provenance_of(pipeline, piece.prompt.words, piece.seed, settings)
        super().__init__(piece, provenance=provenance, settings=settings, original=original)
        self._request = request

    @property
    def score(self) -> Score:
        """The notes."""
        return self.piece.score

    @property
    def conditions(self) -> dict[str, str]:
        """What the model was conditioned on, in words."""
        return self.piece.conditions

    @property
    def receipt(self) -> dict[str, object]:
        """What is measured of the notes against what the words state, as JSON values."""
        from melisma.analysis.receipt import receipt_of_score  # it needs much of scipy

        return receipt_of_score(self.piece.score, self.piece.stated).as_json()

    def plot(self, path: Path | str) -> None:
        """Writes a picture of the piano roll (PNG)."""
        from melisma.analysis.plots.piano_roll import plot_piano_roll

        plot_piano_roll(self.score, Path(path), self.piece.prompt.words)

    def save(
        self,
        path: Path | str,
        *,
        audio: Path | str | None = None,
        stems: Path | str | None = None,
        plot: Path | str | None = None,
        soundfont: Path | str | None = None,
        room: str = "studio",
    ) -> dict[str, object]:
        """Writes the score as a Standard MIDI file with its provenance.

        Args:
            path: The file.
            audio: Also the sound: WAV, FLAC, MP3 or OGG by the ending.
            stems: Also a folder with each part alone, as sound and as MIDI.
            plot: Also a picture of the piano roll (PNG).
            soundfont: A .sf2 or .sf3 file; the best of the system by default.
            room: "dry", "studio" or "hall".

        Returns:
            The row of the JSON receipt.
        """
        path, piece, score = Path(path), self.piece, self.score
        tagged = write_midi_tags(write_midi(score), self.provenance.fields())
        sound = None
        if audio is not None or stems is not None:
            sound = run_render(
                RenderRequest(
                    score=score,
                    provenance=self.provenance,
                    title=piece.prompt.words,
                    path=None if audio is None else Path(audio),
                    plot=None,
                    stems=None if stems is None else Path(stems),
                    soundfont=None if soundfont is None else Path(soundfont),
                    room=room,
                )
            )
        write_bytes(path, tagged)
        if plot is not None:
            self.plot(plot)
        row: dict[str, object] = {
            "path": str(path),
            "plot": None if plot is None else str(plot),
            "prompt": piece.prompt.words,
            "seed": piece.seed,
            "seconds": round(score.seconds, 3),
            "bars": len(bars_of(score)[0]),
            "notes": sum(len(track.notes) for track in score.tracks),
            "parts": [track.name for track in score.tracks],
            "conditions": piece.conditions,
            "measured": piece.adherence.shown(),
            "candidates": [round(candidate, 4) for candidate in piece.candidates],
            "sound": sound,
        }
        row |= self.made_by()
        if self._request.receipt:
            row["receipt"] = self.receipt
        if self.original is not None:
            row["original"] = dict(self.original)
        return row


def run_score(
    pipeline: ScorePipeline, request: ScoreRequest, progress: Progress | None = None
) -> Iterator[ScoreResult]:
    """Runs a request for scores, see `run`."""

    def make(piece: ScorePiece, original: Mapping[str, object] | None) -> ScoreResult:
        return ScoreResult(piece, pipeline, request, original)

    return run(pipeline, request, make, progress)
