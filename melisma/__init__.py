"""Melisma: words, a hummed tune or a recording become music, as sound and as notes.

    import melisma

    melisma.generate("a gentle waltz", duration=10, seed=7).save("waltz.wav")
    melisma.compose("a minuet for string quartet in G major").save("minuet.mid", audio="minuet.wav")

    pipeline = melisma.load("default")
    for piece in pipeline.generate(["a march", "a lullaby"], key="F# minor", best_of=8):
        print(piece.conditions, piece.receipt)

Names are imported when they are first used: `import melisma` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melisma.files.audio import read_audio, write_audio
    from melisma.generation.conditioning.audio import AudioConditions
    from melisma.generation.requests.entry import compose, generate, load
    from melisma.values.errors import MelismaError
    from melisma.values.prompt import Prompt
    from melisma.values.sampling import SamplingParams
    from melisma.values.score import Score
    from melisma.values.score_prompt import ScorePrompt
    from melisma.values.waveform import Waveform

try:
    __version__ = version("melisma")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

__all__ = [
    "AudioConditions",
    "MelismaError",
    "Prompt",
    "SamplingParams",
    "Score",
    "ScorePrompt",
    "Waveform",
    "compose",
    "generate",
    "load",
    "read_audio",
    "write_audio",
]

_HOMES = {
    "AudioConditions": "generation.conditioning.audio",
    "MelismaError": "values.errors",
    "Prompt": "values.prompt",
    "SamplingParams": "values.sampling",
    "Score": "values.score",
    "ScorePrompt": "values.score_prompt",
    "Waveform": "values.waveform",
    "compose": "generation.requests.entry",
    "generate": "generation.requests.entry",
    "load": "generation.requests.entry",
    "read_audio": "files.audio",
    "write_audio": "files.audio",
}


def __getattr__(name: str) -> Any:
    """A public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from melisma.nn.idle_threads import limit_spinning

    limit_spinning()
    return getattr(import_module(f"melisma.{_HOMES[name]}"), name)
