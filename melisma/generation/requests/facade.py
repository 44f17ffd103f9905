"""The Python API: a loaded model with one method for each thing that it can do.

The command line calls the same methods. Everything heavy is loaded when it is first needed, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, overload

from melisma.generation.catalogue import ModelFacts, facts_of
from melisma.generation.loading import AnyRateCodec, load, load_codec, load_scores
from melisma.generation.pipeline import AudioPipeline, Progress
from melisma.generation.requests.abilities import (
    check_request,
    check_task,
    engine_of,
    kind_of,
    options_of,
    task_of,
)
from melisma.generation.requests.audio import AudioRequest, AudioResult, run_audio
from melisma.generation.requests.checks import (
    audio_prompts,
    check_call,
    check_loading,
    checked_key,
    checked_levels,
    checked_metre,
    checked_pair,
    checked_seconds,
    checked_tokens,
    plain_number,
    score_prompts,
)
from melisma.generation.requests.given import (
    audio_context,
    melody_for_prompt,
    metre_name,
    notes_of,
    score_of,
    waveform_of,
)
from melisma.generation.requests.request import BATCH
from melisma.generation.requests.routing import as_score_request, routes_of
from melisma.generation.requests.score import ScoreRequest, ScoreResult, run_score
from melisma.generation.requests.stream import run_stream
from melisma.generation.resolve import is_known, local_model, resolve_model
from melisma.generation.score.hummed import HummedMelody
from melisma.generation.score.pipeline import ScoreContext, ScorePipeline
from melisma.joint.instrument_words import checked_instruments
from melisma.values import Prompt, Score, TokenGrid, Waveform
from melisma.values.errors import MelismaError, expect_text
from melisma.values.model_ref import ModelRef
from melisma.values.prompt import CONTINUED_SECONDS
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt, parse_style


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
                hub, e.g. "facebook/musicgen-small" or "hub:owner/name".
            threads: Processor threads; all cores by default.
            precision: Of the language models' weights: "float32", "bfloat16", "int8" or "int4";
                float32 by default, int8 for MusicGen.
            device: "cpu", "cuda" or "auto", where MusicGen runs.

        Raises:
            MelismaError: There is no such model.
        """
        check_loading(threads, precision, device)
        self.model = resolve_model(model)
        if device.startswith("cuda") and self.model.family != "musicgen":
            raise MelismaError(
                f"the model {self.model.name} runs on the processor: leave out device, or give "
                '"cpu" or "auto"'
            )
        self._threads, self._precision, self._device = threads, precision, device

    @cached_property
    def audio(self) -> AudioPipeline:
        """The pipeline for audio, loaded when it is first needed."""
        model = local_model(self.model)
        return load(model, self._threads, precision=self._precision, device=self._device)

    @cached_property
    def scores(self) -> ScorePipeline:
        """The pipeline for scores, loaded when it is first needed."""
        return load_scores(self.model, self._threads, precision=self._precision)

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
        time_signature: tuple[int, int] | str | None = ...,
        metre: str | None = ...,
        without: Sequence[str] | str = ...,
        melody: Waveform | Score | Path | str | None = ...,
        continue_from: Waveform | Path | str | None = ...,
        keep_seconds: float = ...,
        whole: bool = ...,
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
        time_signature: tuple[int, int] | str | None = ...,
        metre: str | None = ...,
        without: Sequence[str] | str = ...,
        melody: Waveform | Score | Path | str | None = ...,
        continue_from: Waveform | Path | str | None = ...,
        keep_seconds: float = ...,
        whole: bool = ...,
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
        time_signature: tuple[int, int] | str | None = None,
        metre: str | None = None,
        without: Sequence[str] | str = (),
        melody: Waveform | Score | Path | str | None = None,
        continue_from: Waveform | Path | str | None = None,
        keep_seconds: float = CONTINUED_SECONDS,
        whole: bool = False,
        sampling: SamplingParams | None = None,
        progress: Progress | None = None,
    ) -> AudioResult | list[AudioResult]:
        """Generates audio from words.

        Args:
            prompts: What to play; a sequence gives a list of results.
            duration: Seconds of new music, 1 to 600; what `continue_from` gives comes before it.
            seed: Of the first piece; piece i has `seed + i`. The same seed gives the same music.
            best_of: Candidates for each piece, of which the best is selected; 4 by default, 1 for
                MusicGen.
            rank: "words" (similarity in the joint space) or "receipt" (measured tempo, key, metre
                and instruments).
            receipt: Whether `save` also measures each piece against its words.
            original: Whether pieces too similar to training music are sampled again.
            bpm: Tempo; overrides the words.
            key: Musical key, e.g. "F# minor"; overrides the words.
            time_signature: 2/4, 3/4, 4/4 or 6/8; overrides the words.
            metre: The same, under the name of earlier versions.
            without: Instruments that do not play, e.g. ["drums"] or "drums, piano".
            melody: What is followed: a recording, hummed, sung or played, a score or a MIDI file.
            continue_from: Audio whose end the piece continues.
            keep_seconds: How much of its end the piece begins with.
            whole: Whether it begins with all of `continue_from`, not with its last seconds alone.
            sampling: Parameters that differ from the model's defaults.
            progress: Called with the finished share, 0 to 1.

        Returns:
            A result, or a list of them: `.waveform` is mastered, `.save(path)` writes it.

        Raises:
            MelismaError: A value lies beyond its limits, or the model cannot do what is asked.
        """
        single = isinstance(prompts, str | Prompt)
        signature = checked_metre(metre if time_signature is None else time_signature)
        constraints: dict[str, Any] = {
            "duration_seconds": plain_number(duration),
            "tempo_bpm": plain_number(bpm),
            "tonality": checked_key(key),
            "metre": None if signature is None else metre_name(signature),
            "without": checked_instruments(without),
        }
        given = audio_prompts(prompts, constraints)
        keep_seconds = checked_seconds("the seconds to keep", keep_seconds)
        seed, best_of = check_call(len(given), seed=seed, best_of=best_of, sampling=sampling)
        longest = max(one.duration_seconds for one in given)
        context = audio_context(melody, continue_from, keep_seconds, whole=whole, seconds=longest)
        request = AudioRequest(
            prompts=given,
            seed=seed,
            sampling=sampling,
            best_of=best_of,
            rank=rank,
            context=context,
            receipt=receipt,
            original=original,
            notes=notes_of(
                melody=melody, continue_from=continue_from, keep_seconds=keep_seconds, whole=whole
            ),
        )
        self.expect_options(request)
        results = list(run_audio(self.audio, request, progress))
        return results[0] if single else results

    @overload
    def compose(
        self,
        prompts: str | ScorePrompt,
        *,
        duration: float | None = ...,
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
        without: Sequence[str] | str = ...,
        continue_from: Score | Path | str | None = ...,
        infill: tuple[int, int] | None = ...,
        melody: Score | Waveform | Path | str | None = ...,
        sampling: SamplingParams | None = ...,
        progress: Progress | None = ...,
    ) -> ScoreResult: ...

    @overload
    def compose(
        self,
        prompts: Sequence[str | ScorePrompt],
        *,
        duration: float | None = ...,
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
        without: Sequence[str] | str = ...,
        continue_from: Score | Path | str | None = ...,
        infill: tuple[int, int] | None = ...,
        melody: Score | Waveform | Path | str | None = ...,
        sampling: SamplingParams | None = ...,
        progress: Progress | None = ...,
    ) -> list[ScoreResult]: ...

    def compose(
        self,
        prompts: str | ScorePrompt | Sequence[str | ScorePrompt] = "",
        *,
        duration: float | None = None,
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
        without: Sequence[str] | str = (),
        continue_from: Score | Path | str | None = None,
        infill: tuple[int, int] | None = None,
        melody: Score | Waveform | Path | str | None = None,
        sampling: SamplingParams | None = None,
        progress: Progress | None = None,
    ) -> ScoreResult | list[ScoreResult]:
        """Composes scores from words.

        Args:
            prompts: What to play; a sequence gives a list of results.
            duration: Seconds of new music, unless `bars` are given; 30 by default.
            bars: How many new bars. What `continue_from` gives comes before the new music.
            seed: Of the first piece; piece i has `seed + i`.
            best_of: Candidates for each piece, of which the best is selected; 8 by default.
            receipt: Whether `save` also measures each piece against its words.
            original: Whether pieces too similar to training music are sampled again.
            bpm: Tempo; overrides the words.
            key: Musical key; overrides the words.
            time_signature: Metre, e.g. "7/8" or (7, 8); overrides the words.
            instruments: Who plays, e.g. "flute, cello, drums"; overrides the words.
            style: A style, composer or tradition; overrides the words.
            without: Instruments that do not play, e.g. ["drums"] or "drums, piano".
            continue_from: A score or MIDI file that is continued.
            infill: First and last bar of `continue_from` that are written anew, from 1.
            melody: A melody to accompany: a score, a MIDI file or a recording, hummed or played.
            sampling: Parameters that differ from the model's defaults.
            progress: Called with the finished share, 0 to 1.

        Returns:
            A result, or a list of them: `.score` has the notes, `.save(path)` writes files.

        Raises:
            MelismaError: A value lies beyond its limits, or the model cannot do what is asked.
        """
        single = isinstance(prompts, str | ScorePrompt)
        kind_of(facts_of(self.model), "score")
        options: dict[str, object] = {"bars": bars, "duration": duration, "bpm": bpm}
        options |= {"time_signature": time_signature, "instruments": instruments}
        check_task(task_of(melody, continue_from, infill), options)
        metre = checked_metre(time_signature)
        constraints: dict[str, Any] = {
            "bars": bars,
            "duration_seconds": 30.0 if duration is None else plain_number(duration),
            "tempo_bpm": plain_number(bpm),
            "tonality": checked_key(key),
            "metre": metre,
            "style": None if style is None else parse_style(expect_text("a style", style)),
            "without": checked_instruments(without),
            "has_prefix": melody is not None or continue_from is not None,
        }
        given = score_prompts(prompts, instruments, constraints)
        seed, best_of = check_call(len(given), seed=seed, best_of=best_of, sampling=sampling)
        tune, hummed = melody_for_prompt(melody, given[0])
        request = ScoreRequest(
            prompts=given,
            seed=seed,
            sampling=sampling,
            best_of=best_of,
            context=_score_context(continue_from, infill, tune),
            receipt=receipt,
            original=original,
            notes=_score_notes(melody, continue_from, hummed),
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
        given = options_of(request)
        facts = self.facts()
        check_request(facts, engine, given, best_of=request.best_of)
        chosen, why = engine_of(facts, engine, given)
        for route in routes_of(request, chosen or engine):
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
                yield result, route.engine, reason or why

    def stream(
        self,
        request: AudioRequest,
        target: Path | BinaryIO,
        progress: Progress | None = None,
        growing: Callable[[Path], None] | None = None,
        *,
        replace: bool = True,
    ) -> dict[str, object]:
        """Writes the sound of one piece while it is sampled, see `run_stream`."""
        self.expect_options(request)
        return run_stream(self.audio, request, target, progress, growing, replace=replace)

    def encode(self, audio: Waveform | Path | str, levels: int | None = None) -> TokenGrid:
        """The codec's tokens of a recording.

        Args:
            audio: A waveform or a file, of any rate and number of channels.
            levels: Levels of the residual quantizer to keep; all by default.
        """
        return self.codec.encode(waveform_of(audio), checked_levels(levels))

    def decode(self, tokens: TokenGrid) -> Waveform:
        """The sound of the codec's tokens."""
        return self.codec.decode(checked_tokens(tokens))

    def facts(self) -> ModelFacts:
        """What is known of the model without loading it; one on the hub that nobody knows is
        fetched first."""
        model = self.model
        if not is_known(model):
            model = local_model(model)  # its size is known when it is here
            model = replace(model, source="folder", name=str(model.folder))
        return facts_of(model)

    def expect_options(self, request: AudioRequest) -> None:
        """Checks, before anything is loaded, that the model takes all that a request asks for.

        Raises:
            MelismaError: It does not; the message says what to do.
        """
        check_request(self.facts(), "sound", options_of(request), best_of=request.best_of)

    def expect_memory(self, request: AudioRequest) -> None:
        """Checks, before anything is loaded, that a request will fit in memory.

        Raises:
            MelismaError: It will not; the message says what would.
        """
        from melisma.engine.resources.hardware import memory
        from melisma.engine.resources.memory import Workload, estimate_memory, require_memory

        facts = self.facts()
        candidates = request.best_of or facts.usual_candidates
        workload = Workload(
            seconds=request.prompts[0].duration_seconds,
            pieces=min(len(request.prompts), BATCH) * candidates,
        )
        need = estimate_memory(facts.sizes, self._precision or facts.usual_precision, workload)
        require_memory(need.bytes, memory().available_bytes, self.model.name)


def _score_context(
    continue_from: Score | Path | str | None, infill: tuple[int, int] | None, melody: Score | None
) -> ScoreContext:
    """What a score is given, from values or files."""
    return ScoreContext(
        continue_from=score_of(continue_from),
        infill_bars=None if infill is None else checked_pair("infill", infill, "as in (9, 12)"),
        melody=melody,
    )


def _score_notes(
    melody: object, continue_from: object, hummed: HummedMelody | None
) -> dict[str, object]:
    """What the provenance of a score says of files that were given."""
    notes = notes_of(melody=melody, continue_from=continue_from)
    return notes if hummed is None else {**notes, "transcribed": hummed.words}
