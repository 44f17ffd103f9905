"""Requests for scores: a pipeline runs them, results are written as MIDI, sound and pictures."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from melisma.files import write_bytes
from melisma.files.names import is_special, replaced_paths
from melisma.generation.conditioning.understanding import Understanding
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
    def understanding(self) -> Understanding:
        """What of the prompt was understood, what was not, and what was chosen freely."""
        return self.piece.understanding

    @property
    def receipt(self) -> dict[str, object]:
        """What is measured of the notes against what the words state, as JSON values."""
        from melisma.analysis.receipt import receipt_of_score  # it needs much of scipy

        return receipt_of_score(self.score, self.piece.stated, self.piece.absent).as_json()

    def _has_given_music(self) -> bool:
        """Whether a given piece is part of the score: our licence does not go over it."""
        context = self._request.context
        return context is not None and (
            context.continue_from is not None or context.melody is not None
        )

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
        ending: str | None = None,
        replace: bool = True,
    ) -> dict[str, object]:
        """Writes the score as a Standard MIDI file with its provenance.

        Args:
            path: The file.
            audio: Also the sound: WAV, FLAC, MP3 or OGG by the ending.
            stems: Also a folder with each part alone, as sound and as MIDI.
            plot: Also a picture of the piano roll (PNG).
            soundfont: A .sf2 or .sf3 file; the best of the system by default.
            room: "dry", "studio" or "hall".
            ending: Selects the format of the sound where the name of a pipe or device does not.
            replace: Whether a score or sound that exists is replaced; otherwise it is a
                `FileExistsError`.

        Returns:
            The row of the JSON receipt.
        """
        path, piece, score = Path(path), self.piece, self.score
        notice = not self._has_given_music()
        tagged = write_midi_tags(write_midi(score), self.provenance.fields(), notice=notice)
        if not replace and path.exists() and not is_special(path):
            raise FileExistsError(errno.EEXIST, "it exists already", str(path))
        replaced = replaced_paths(path, *(Path(one) for one in (audio, plot) if one is not None))
        sound = None
        if audio is not None or stems is not None:
            request = RenderRequest(
                score=score,
                provenance=self.provenance,
                title=piece.prompt.words,
                path=None if audio is None else Path(audio),
                plot=None,
                stems=None if stems is None else Path(stems),
                soundfont=None if soundfont is None else Path(soundfont),
                room=room,
                ending=ending,
                replace=replace,
                notice=notice,
            )
            sound = run_render(request)
        write_bytes(path, tagged, replace=replace)
        if plot is not None:
            self.plot(plot)
        places: dict[str, object] = {
            "path": str(path),
            "replaced": replaced,
            "plot": None if plot is None else str(plot),
        }
        facts = self._facts()
        if sound is not None:
            kept = sound["stems_remarks"]
            assert isinstance(kept, list)
            facts["remarks"] = [*score.remarks, *kept]
        return places | facts | {"sound": sound} | self._extra_facts()

    def _facts(self) -> dict[str, object]:
        """What the receipt says about the piece."""
        piece, score = self.piece, self.score
        return {
            "prompt": piece.prompt.words,
            "seed": piece.seed,
            "seconds": round(score.seconds, 3),
            "bars": len(bars_of(score)[0]),
            "notes": sum(len(track.notes) for track in score.tracks),
            "parts": [track.name for track in score.tracks],
            "conditions": piece.conditions,
            "measured": piece.adherence.shown(),
            "candidates": [round(candidate, 4) for candidate in piece.candidates],
            "remarks": list(score.remarks),
        }

    def _extra_facts(self) -> dict[str, object]:
        """The parts of the receipt that depend on the request."""
        row: dict[str, object] = {}
        if "transcribed" in self._request.notes:
            row["transcribed"] = self._request.notes["transcribed"]
        row |= self.piece.understanding.as_json()
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
