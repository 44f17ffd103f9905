"""Routing: whether a prompt is better made by the audio models or by the score model.

The rule follows the figures in docs/results.md: scores adhere far better to a stated key, and to
metres, composers and several instruments at all; a tempo is met as often by generated sound, which
is as near to the words, nearer to real music by its Fréchet distances, and has textures that no
SoundFont has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.requests.abilities import ENGINES
from melisma.generation.requests.request import GenerationRequest, part_of
from melisma.generation.score.pipeline import ScoreContext
from melisma.joint.instrument_words import named_families
from melisma.joint.settings_words import read_settings
from melisma.values import Prompt
from melisma.values.errors import MelismaError
from melisma.values.score_prompt import ScorePrompt, parse_time_signature
from melisma.values.traditions import named_composer, named_tradition

_TEXTURE = re.compile(
    r"\b(ambient|drones?|noise|noisy|texture\w*|soundscapes?|atmospher\w*|glitch\w*|vinyl|lo-?fi|"
    r"distort\w*|reverb\w*|echo\w*|sound effects?|tape|synthwave|techno|dubstep|trance)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Route:
    """Neighbouring prompts of a request that go to one engine."""

    engine: str
    """"sound" or "score"."""
    reasons: tuple[str, ...]
    """Why, for each prompt; empty where it was requested."""
    request: GenerationRequest[Prompt, AudioConditions]
    first: int
    """Number of its first prompt in the whole request."""


def routes_of(request: GenerationRequest[Prompt, AudioConditions], engine: str) -> Iterator[Route]:
    """Splits a request by engine.

    Args:
        request: What is to be generated.
        engine: One of `ENGINES`.

    Raises:
        MelismaError: There is no such engine.
    """
    if engine not in ENGINES:
        raise MelismaError(f'no engine "{engine}": known are {", ".join(ENGINES)}')
    chosen = [(engine, "")] * len(request.prompts)
    if engine == "auto":
        chosen = [
            favoured_engine(p.words, bool(p.tempo_bpm or p.tonality or p.metre))
            for p in request.prompts
        ]
    first = 0
    while first < len(chosen):
        stop = first + 1
        while stop < len(chosen) and chosen[stop][0] == chosen[first][0]:
            stop += 1
        yield Route(
            engine=chosen[first][0],
            reasons=tuple(reason for _, reason in chosen[first:stop]),
            request=part_of(request, first, stop),
            first=first,
        )
        first = stop


def as_score_request(
    request: GenerationRequest[Prompt, AudioConditions],
) -> GenerationRequest[ScorePrompt, ScoreContext]:
    """The same request for the score model; sampling parameters of sound do not apply to it.

    Raises:
        MelismaError: Recordings are given, which generated audio alone takes in.
    """
    given = request.context
    if given is not None and (given.melody is not None or given.beginning is not None):
        raise MelismaError(
            "a melody or a beginning is given, and this request goes to the score model: choose "
            'the engine "sound", or compose with a melody or a MIDI file'
        )
    return GenerationRequest(
        prompts=tuple(
            ScorePrompt(
                words=prompt.words,
                duration_seconds=prompt.duration_seconds,
                tempo_bpm=prompt.tempo_bpm,
                tonality=prompt.tonality,
                metre=None if prompt.metre is None else parse_time_signature(prompt.metre),
                without=prompt.without,
            )
            for prompt in request.prompts
        ),
        seed=request.seed,
        best_of=request.best_of,
        receipt=request.receipt,
        original=request.original,
    )


def favoured_engine(words: str, exact: bool) -> tuple[str, str]:
    """The engine that suits a prompt, and why.

    Args:
        words: Of the prompt.
        exact: Whether exact settings were given.

    >>> favoured_engine("a waltz for clarinet in D minor", False)[0]
    'score'
    >>> favoured_engine("a dark ambient drone", False)[0]
    'sound'
    """
    if exact:
        return "score", "exact settings were given, which the notes of a score keep"
    said = read_settings(words)
    if said.tonality is not None:
        return "score", "the words state a key, which the notes of a score keep"
    texture = _TEXTURE.search(words)
    if texture is not None:
        return "sound", f'"{texture[0]}" is a matter of sound, not of notes'
    style = named_composer(words) or named_tradition(words)
    if style is not None:
        return "score", f"{style} is a way of writing notes"
    if said.metre is not None:
        return "score", "the words state a metre, which the notes of a score keep"
    if len(named_families(words)[0]) > 1:
        return "score", "the words name several instruments, which all play in a score"
    return "sound", "generated sound is nearer to words that state no key, metre or instruments"
