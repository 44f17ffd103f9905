"""The Python API: a loaded model with one method for each thing that it can do.

The command line calls the same methods. Everything heavy is loaded when it is first needed, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, overload

from melisma.files import read_audio
from melisma.generation.catalogue import facts_of
from melisma.generation.conditioning.audio import AudioConditions, last_seconds
from melisma.generation.loading import AnyRateCodec, load, load_codec, load_scores
from melisma.generation.pipeline import AudioPipeline, Progress
from melisma.generation.requests.audio import AudioRequest, AudioResult, run_audio
from melisma.generation.requests.request import BATCH
from melisma.generation.requests.routing import as_score_request, routes_of
from melisma.generation.requests.score import ScoreRequest, ScoreResult, run_score
from melisma.generation.requests.stream import run_stream
from melisma.generation.resolve import local_model, resolve_model
from melisma.generation.score.pipeline import ScoreContext, ScorePipeline
from melisma.symbolic.midi import midi_bytes, read_midi
from melisma.values import Prompt, Score, TokenGrid, Waveform
from melisma.values.attributes import parse_key
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef
from melisma.values.prompt import CONTINUED_SECONDS
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt, parse_style, parse_time_signature


class MelismaPipeline:
    """A model, ready to generate audio and scores."""

    def __init__(
        self,
        model: str | Path | ModelRef = "default",
        *,
        threads: int | None = None,
        precision: str | None = None,
        device: str = "auto",
    ) -> None:
        """
        Args:
            model: A shipped model's name, a folder of weights, or a MusicGen checkpoint on the
                hub, e.g. "facebook/musicgen-small".
            threads: Processor threads; all cores by default.
            precision: Of the language models' weights: "float32", "bfloat16", "int8" or "int4";
                float32 by default, int8 for MusicGen.
            device: "cpu", "cuda" or "auto", where MusicGen runs.

        Raises:
            MelismaError: There is no such model.
        """
        self.model = resolve_model(model)
        self._threads, self._precision, self._device = threads, precision, device

    @cached_property
    def audio(self) -> AudioPipeline:
        """The pipeline for audio, loaded when it is first needed."""
        model = local_model(self.model)
        return load(model, self._threads, precision=self._precision, device=self._device)

    @cached_property
    def scores(self) -> ScorePipeline:
        """The pipeline for scores, loaded when it is first needed."""
        return load_scores(self.model, self._threads)

    @cached_property
    def codec(self) -> AnyRateCodec:
        """The codec alone, loaded when it is first needed."""
        return load_codec(self.model)

    @overload
    def generate(
        self,
        prompts: str | Prompt,
        *,
        duration: float = ...,
        seed: int = ...,
        best_of: int | None = ...,
        rank: str = ...,
        receipt: bool = ...,
        original: bool = ...,
        bpm: float | None = ...,
        key: str | None = ...,
        metre: str | None = ...,
        melody: Waveform | Path | str | None = ...,
        continue_from: Waveform | Path | str | None = ...,
        keep_seconds: float = ...,
        sampling: SamplingParams | None = ...,
        progress: Progress | None = ...,
    ) -> AudioResult: ...

    @overload
    def generate(
        self,
        prompts: Sequence[str | Prompt],
        *,
        duration: float = ...,
        seed: int = ...,
        best_of: int | None = ...,
        rank: str = ...,
        receipt: bool = ...,
        original: bool = ...,
        bpm: float | None = ...,
        key: str | None = ...,
        metre: str | None = ...,
        melody: Waveform | Path | str | None = ...,
        continue_from: Waveform | Path | str | None = ...,
        keep_seconds: float = ...,
        sampling: SamplingParams | None = ...,
        progress: Progress | None = ...,
    ) -> list[AudioResult]: ...

    def generate(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        *,
        duration: float = 10.0,
        seed: int = 0,
        best_of: int | None = None,
        rank: str = "words",
        receipt: bool = False,
        original: bool = False,
        bpm: float | None = None,
        key: str | None = None,
        metre: str | None = None,
        melody: Waveform | Path | str | None = None,
        continue_from: Waveform | Path | str | None = None,
        keep_seconds: float = CONTINUED_SECONDS,
        sampling: SamplingParams | None = None,
        progress: Progress | None = None,
    ) -> AudioResult | list[AudioResult]:
        """Generates audio from words.

        Args:
            prompts: What to play; a sequence gives a list of results.
            duration: Seconds of each piece, 1 to 600.
            seed: Of the first piece; piece i has `seed + i`. The same seed gives the same music.
            best_of: Candidates for each piece, of which the best is selected; 4 by default, 1 for
                MusicGen.
            rank: "words" (similarity in the joint space) or "receipt" (measured tempo, key, metre
                and instruments).
            receipt: Whether `save` also measures each piece against its words.
            original: Whether pieces too similar to training music are sampled again.
            bpm: Tempo, over that of the words.
            key: Musical key, over that of the words, e.g. "F# minor".
            metre: "2/4", "3/4", "4/4" or "6/8".
            melody: Audio whose melody is followed: hummed, sung or played.
            continue_from: Audio whose end the piece continues.
            keep_seconds: How much of its end the piece begins with.
            sampling: Parameters that differ from the model's defaults.
            progress: Called with the finished share, 0 to 1.

        Returns:
            A result, or a list of them: `.waveform` is mastered, `.save(path)` writes it.

        Raises:
            MelismaError: A value lies beyond its limits, or the model cannot do what is asked.
        """
        single = isinstance(prompts, str | Prompt)
        request = AudioRequest(
            prompts=tuple(
                one
                if isinstance(one, Prompt)
                else Prompt(
                    words=one,
                    duration_seconds=duration,
                    tempo_bpm=bpm,
                    tonality=None if key is None else parse_key(key),
                    metre=metre,
                )
                for one in ([prompts] if isinstance(prompts, str | Prompt) else prompts)
            ),
            seed=seed,
            sampling=sampling,
            best_of=best_of,
            rank=rank,
            context=audio_context(melody, continue_from, keep_seconds),
            receipt=receipt,
            original=original,
            notes=notes_of(melody=melody, continue_from=continue_from, keep_seconds=keep_seconds),
        )
        results = list(run_audio(self.audio, request, progress))
        return results[0] if single else results

    @overload
    def compose(
        self,
        prompts: str | ScorePrompt,
        *,
        duration: float = ...,
        bars: int | None = ...,
        seed: int = ...,
        best_of: int | None = ...,
        receipt: bool = ...,
        original: bool = ...,
        bpm: float | None = ...,
        key: str | None = ...,
        time_signature: tuple[int, int] | str | None = ...,
        instruments: str | None = ...,
        style: str | None = ...,
        continue_from: Score | Path | str | None = ...,
        infill: tuple[int, int] | None = ...,
        melody: Score | Path | str | None = ...,
        sampling: SamplingParams | None = ...,
        progress: Progress | None = ...,
    ) -> ScoreResult: ...

    @overload
    def compose(
        self,
        prompts: Sequence[str | ScorePrompt],
        *,
        duration: float = ...,
        bars: int | None = ...,
        seed: int = ...,
        best_of: int | None = ...,
        receipt: bool = ...,
        original: bool = ...,
        bpm: float | None = ...,
        key: str | None = ...,
        time_signature: tuple[int, int] | str | None = ...,
        instruments: str | None = ...,
        style: str | None = ...,
        continue_from: Score | Path | str | None = ...,
        infill: tuple[int, int] | None = ...,
        melody: Score | Path | str | None = ...,
        sampling: SamplingParams | None = ...,
        progress: Progress | None = ...,
    ) -> list[ScoreResult]: ...

    def compose(
        self,
        prompts: str | ScorePrompt | Sequence[str | ScorePrompt] = "",
        *,
        duration: float = 30.0,
        bars: int | None = None,
        seed: int = 0,
        best_of: int | None = None,
        receipt: bool = False,
        original: bool = False,
        bpm: float | None = None,
        key: str | None = None,
        time_signature: tuple[int, int] | str | None = None,
        instruments: str | None = None,
        style: str | None = None,
        continue_from: Score | Path | str | None = None,
        infill: tuple[int, int] | None = None,
        melody: Score | Path | str | None = None,
        sampling: SamplingParams | None = None,
        progress: Progress | None = None,
    ) -> ScoreResult | list[ScoreResult]:
        """Composes scores from words.

        Args:
            prompts: What to play; a sequence gives a list of results.
            duration: Seconds of each piece, unless `bars` are given.
            bars: How many bars.
            seed: Of the first piece; piece i has `seed + i`.
            best_of: Candidates for each piece; the one that adheres best to the prompt is
                selected; 8 by default.
            receipt: Whether `save` also measures each piece against its words.
            original: Whether pieces too similar to training music are sampled again.
            bpm: Tempo, over that of the words.
            key: Musical key, over that of the words.
            time_signature: Metre, over that of the words, e.g. "7/8" or (7, 8).
            instruments: Who plays, over the words, e.g. "flute, cello, drums".
            style: A style, composer or tradition, over the words.
            continue_from: A score or MIDI file that is continued.
            infill: First and last bar of `continue_from` that are written anew, from 1.
            melody: A score or MIDI file whose melody is accompanied.
            sampling: Parameters that differ from the model's defaults.
            progress: Called with the finished share, 0 to 1.

        Returns:
            A result, or a list of them: `.score` has the notes, `.save(path)` writes MIDI and, on
            request, sound, stems and a picture.

        Raises:
            MelismaError: A value lies beyond its limits, or the model cannot do what is asked.
        """
        single = isinstance(prompts, str | ScorePrompt)
        constraints: dict[str, Any] = {
            "bars": bars,
            "duration_seconds": duration,
            "tempo_bpm": bpm,
            "tonality": None if key is None else parse_key(key),
            "metre": time_signature_of(time_signature),
            "style": None if style is None else parse_style(style),
            "has_prefix": melody is not None or continue_from is not None,
        }
        request = ScoreRequest(
            prompts=_score_prompts([prompts] if single else prompts, instruments, constraints),
            seed=seed,
            sampling=sampling,
            best_of=best_of,
            context=ScoreContext(
                continue_from=score_of(continue_from),
                infill_bars=infill,
                melody=score_of(melody),
            ),
            receipt=receipt,
            original=original,
            notes=notes_of(melody=melody, continue_from=continue_from),
        )
        results = list(run_score(self.scores, request, progress))
        return results[0] if single else results

    def run(
        self, request: AudioRequest, engine: str = "sound", progress: Progress | None = None
    ) -> Iterator[tuple[AudioResult | ScoreResult, str, str]]:
        """Runs a request by the audio models, the score model, or whichever suits each prompt.

        Args:
            request: What is to be generated.
            engine: "sound", "score" or "auto".
            progress: Called with the finished share, 0 to 1.

        Yields:
            (result, engine, reason), the reason empty where the engine was requested.
        """
        total = len(request.prompts)
        for route in routes_of(request, engine):
            size = len(route.request.prompts)

            def report(share: float, first: int = route.first, size: int = size) -> None:
                if progress is not None:
                    progress((first + share * size) / total)

            results: Iterator[AudioResult | ScoreResult]
            if route.engine == "score":
                results = run_score(self.scores, as_score_request(route.request), report)
            else:
                results = run_audio(self.audio, route.request, report)
            for result, reason in zip(results, route.reasons, strict=True):
                yield result, route.engine, reason

    def stream(
        self, request: AudioRequest, target: Path | BinaryIO, progress: Progress | None = None
    ) -> dict[str, object]:
        """Writes the sound of one piece while it is sampled, see `run_stream`."""
        return run_stream(self.audio, request, target, progress)

    def encode(self, audio: Waveform | Path | str, levels: int | None = None) -> TokenGrid:
        """The codec's tokens of a recording.

        Args:
            audio: A waveform or a file, of any rate and number of channels.
            levels: Levels of the residual quantizer to keep; all by default.
        """
        return self.codec.encode(waveform_of(audio), levels)

    def decode(self, tokens: TokenGrid) -> Waveform:
        """The sound of the codec's tokens."""
        return self.codec.decode(tokens)

    def expect_memory(self, request: AudioRequest) -> None:
        """Checks, before anything is loaded, that a request will fit in memory.

        Raises:
            MelismaError: It will not; the message says what would.
        """
        from melisma.engine.resources.hardware import memory
        from melisma.engine.resources.memory import Workload, estimate_memory, require_memory
        from melisma.files.hub import PUBLISHED

        model = self.model
        if model.folder is None and model.repository not in PUBLISHED:
            model = local_model(model)  # its size is known when it is here
            model = replace(model, source="folder", name=str(model.folder))
        facts = facts_of(model)
        candidates = request.best_of or facts.usual_candidates
        workload = Workload(
            seconds=request.prompts[0].duration_seconds,
            pieces=min(len(request.prompts), BATCH) * candidates,
        )
        need = estimate_memory(facts.sizes, self._precision or facts.usual_precision, workload)
        require_memory(need.bytes, memory().available_bytes, self.model.name)


def _score_prompts(
    prompts: Sequence[str | ScorePrompt], instruments: str | None, constraints: Mapping[str, Any]
) -> tuple[ScorePrompt, ...]:
    """Prompts as they are, and words with the constraints of the call."""
    from melisma.generation.score.instrumentation import programs_of

    programs = () if instruments is None else programs_of(instruments)
    return tuple(
        one
        if isinstance(one, ScorePrompt)
        else ScorePrompt(words=one, programs=programs, **constraints)
        for one in prompts
    )


def time_signature_of(metre: tuple[int, int] | str | None) -> tuple[int, int] | None:
    """A metre as numerator and denominator."""
    return parse_time_signature(metre) if isinstance(metre, str) else metre


def audio_context(
    melody: Waveform | Path | str | None,
    continue_from: Waveform | Path | str | None,
    keep_seconds: float = CONTINUED_SECONDS,
) -> AudioConditions:
    """The audio that pieces are given, from waveforms or files."""
    beginning = None if continue_from is None else waveform_of(continue_from)
    return AudioConditions(
        melody=None if melody is None else waveform_of(melody),
        beginning=None if beginning is None else last_seconds(beginning, keep_seconds),
    )


def waveform_of(audio: Waveform | Path | str) -> Waveform:
    """A waveform as it is, or that of a file."""
    return audio if isinstance(audio, Waveform) else read_audio(Path(audio))


def score_of(score: Score | Path | str | None) -> Score | None:
    """A score as it is, or that of a MIDI file."""
    if score is None or isinstance(score, Score):
        return score
    path = Path(score)
    if not path.is_file():
        raise MelismaError(f"there is no file {path}: check the name")
    return read_midi(midi_bytes(path))


def notes_of(
    *,
    melody: object = None,
    continue_from: object = None,
    keep_seconds: float | None = None,
    precision: str | None = None,
) -> dict[str, object]:
    """What the provenance says of files that were given, by their names alone."""
    notes: dict[str, object] = {}
    if isinstance(melody, Path | str):
        notes["melody"] = Path(melody).name
    if isinstance(continue_from, Path | str):
        notes["continue_from"] = Path(continue_from).name
        if keep_seconds is not None:
            notes["keep_seconds"] = keep_seconds
    if precision is not None:
        notes["precision"] = precision
    return notes
