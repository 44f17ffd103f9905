"""Write the half of `melisma/evaluate/score_prompts.jsonl` that comes from the caption grammar.

Run: `python benchmarks/write_score_prompts.py [--seed 7]`. The same seed writes the same file; the
prompts of the wording "own", written by hand, stay as they are.

60 prompts from the grammar of `melisma.data.captions.writer`: ensembles in turn, a tempo in each of
60 equal slices of log tempo between 50 and 180 bpm, keys without repeats. A fact is in the row only
where the prompt states it: numbers, keys, metres and instruments are read back by `read_settings`,
words of tempo and mode by the grammar's own lists.

Each line: prompt, wording, tempo_bpm (a number that the prompt states) or tempo_word (of
`evaluate.metrics.score_adherence.TEMPO_WORD_BPM`), tonality, mode, metre, instruments, families,
programs (General MIDI, 128 for drums; empty where only families are named), complete (whether all
instruments are named), and the tradition (of
`evaluate.models.tradition_classifier.TRADITION_CLASSES`) under the key `TRADITION_KEY`.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass

import numpy as np

from melisma.data.captions.vocabulary import ITALIAN_TEMPI, TEMPO_NOUNS, TEMPO_WORDS
from melisma.data.captions.writer import write_captions
from melisma.evaluate.legacy_keys import TRADITION_KEY
from melisma.evaluate.metrics.score_adherence import score_prompts_file
from melisma.evaluate.models.tradition_classifier import class_of_composer
from melisma.joint.settings_words import read_settings
from melisma.symbolic.instruments import instrument_name
from melisma.values import Facts
from melisma.values.attributes import METRES, TONALITIES, program_family

OUTPUT = score_prompts_file()
COUNT = 60
SLOWEST_BPM, FASTEST_BPM = 50.0, 180.0
DRUMS = 128
FEWEST_FACTS = 3
"""A prompt that states fewer of tempo, mode, metre, instruments and tradition is written again."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Instruments, style, and composer or tradition."""

    programs: tuple[int, ...]
    """General MIDI, `DRUMS` for a kit; the first leads."""
    style: str
    composer: str | None = None
    tradition: str | None = None
    metres: tuple[str, ...] = METRES


ENSEMBLES: tuple[Ensemble, ...] = (
    Ensemble(programs=(0,), style="romantic", composer="Chopin"),
    Ensemble(programs=(40, 41, 42), style="classical", composer="Haydn"),
    Ensemble(programs=(24,), style="classical", composer="Giuliani"),
    Ensemble(programs=(6,), style="baroque", composer="Bach"),
    Ensemble(programs=(33, 30, DRUMS), style="rock", metres=("4/4",)),
    Ensemble(programs=(19,), style="church", tradition="church hymn"),
    Ensemble(programs=(73, 0), style="romantic", composer="Schubert"),
    Ensemble(programs=(0, 32, DRUMS), style="swing", metres=("4/4",)),
    Ensemble(programs=(52, 48, 19), style="church", tradition="Polish church music"),
    Ensemble(programs=(81, 38, DRUMS), style="game", tradition="video game music"),
    Ensemble(programs=(0,), style="impressionist", composer="Debussy"),
    Ensemble(programs=(110, 25), style="folk", tradition="folk music"),
    Ensemble(programs=(52,), style="renaissance", composer="Lassus"),
    Ensemble(programs=(48, 73, 60, 56), style="romantic"),
    Ensemble(programs=(71, 0), style="romantic", composer="Brahms"),
    Ensemble(programs=(21,), style="waltz", metres=("3/4",)),
    Ensemble(programs=(56, 57, 58, DRUMS), style="march", metres=("2/4", "4/4")),
    Ensemble(programs=(4, 33, DRUMS), style="lo-fi", metres=("4/4",)),
    Ensemble(programs=(0,), style="classical", composer="Mozart"),
    Ensemble(programs=(46, 73), style="impressionist"),
)
_CLASS_OF_TRADITION = {
    "church hymn": "hymns", "Polish church music": "Polish church music",
    "video game music": "game music", "folk music": "folk tunes",
}  # fmt: skip
_STYLE_PATTERNS = {
    "renaissance": r"renaissance|early music", "baroque": r"baroque",
    "impressionist": r"impressionis", "game": r"\bgame|\bvgm", "folk": r"\bfolk|traditional",
    "church": r"\bhymn",
}  # fmt: skip
"""For some styles, a pattern of their wordings."""
_STYLE_CLASSES = {
    "renaissance": "Renaissance", "baroque": "baroque", "impressionist": "impressionists",
    "game": "game music", "folk": "folk tunes", "church": "hymns",
}  # fmt: skip
_RANGE_WORDS: dict[tuple[float, float], str] = {
    (0, 60): "very slow", (0, 80): "slow", (80, 112): "moderate", (112, 400): "fast",
    (150, 400): "very fast",
}  # fmt: skip


def said_tempo_word(caption: str) -> str | None:
    """The tempo that the grammar's words state, a key of `TEMPO_WORD_BPM`; the longest word of the
    lists that stands in the caption decides."""
    lists = [(w, _RANGE_WORDS[low, high]) for low, high, ws in TEMPO_WORDS for w in ws]
    lists += [(w, _RANGE_WORDS[low, high]) for low, high, ws in TEMPO_NOUNS for w in ws]
    for low, high, word in ITALIAN_TEMPI:
        kind = "slow" if high <= 80 else "fast" if low >= 112 else None
        lists += [(word, kind or "moderate")] if kind or low >= 76 else []
    found = [
        (len(word), kind)
        for word, kind in lists
        if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", caption, re.IGNORECASE)
    ]
    return max(found)[1] if found else None


def _facts(ensemble: Ensemble, tempo_bpm: float, tonality: str, metre: str) -> Facts:
    families = [program_family(p % DRUMS, p == DRUMS) for p in ensemble.programs]
    return Facts(
        tempo_bpm=tempo_bpm,
        tonality=None if ensemble.programs == (DRUMS,) else tonality,
        metre=metre,
        families=tuple(dict.fromkeys(families)),
        instruments=tuple(instrument_name(p % DRUMS, p == DRUMS) for p in ensemble.programs),
        lead=families[0],
        style=ensemble.style,
        composer=ensemble.composer,
        tradition=ensemble.tradition,
    )


def _row(caption: str, facts: Facts, ensemble: Ensemble) -> dict[str, object]:
    """The facts that a caption states."""
    read = read_settings(caption)
    word = None if read.tempo_bpm is not None else said_tempo_word(caption)
    mode = re.search(r"\b(major|minor)\b", caption, re.IGNORECASE)
    assert facts.tonality is not None
    truth = facts.tonality.split()[1]
    families = [family for family in facts.families if family in read.families]
    whole = len(families) == len(facts.families)
    names_composer = facts.composer is not None and facts.composer.lower() in caption.lower()
    names_tradition = facts.tradition is not None and facts.tradition.lower() in caption.lower()
    tradition = class_of_composer(facts.composer) if names_composer else None
    pattern = _STYLE_PATTERNS.get(facts.style or "")
    if tradition is None and pattern and re.search(pattern, caption, re.IGNORECASE):
        tradition = _STYLE_CLASSES[facts.style or ""]
    if names_tradition and facts.tradition is not None:
        tradition = _CLASS_OF_TRADITION[facts.tradition]
    return {
        "prompt": caption,
        "wording": "grammar",
        "tempo_bpm": read.tempo_bpm,
        "tempo_word": word,
        "tonality": read.tonality if read.tonality == facts.tonality else None,
        "mode": truth if mode and mode.group().lower() == truth else None,
        "metre": facts.metre if read.metre == facts.metre else None,
        "instruments": list(facts.instruments),
        "families": families,
        "programs": sorted(ensemble.programs) if whole and len(ensemble.programs) == 1 else [],
        "complete": whole,
        TRADITION_KEY: tradition,
    }


def rows(seed: int, count: int = COUNT) -> list[dict[str, object]]:
    """`count` prompts of the grammar with what they say."""
    rng = np.random.default_rng(seed)
    places = (rng.permutation(count) + rng.random(count)) / count
    tempi = np.round(SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** places)
    tonalities = np.concatenate([rng.permutation(24) for _ in range(-(-count // 24))])
    found: list[dict[str, object]] = []
    for index in range(count):
        ensemble = ENSEMBLES[index % len(ENSEMBLES)]
        metre = ensemble.metres[int(rng.integers(len(ensemble.metres)))]
        tonality = TONALITIES[int(tonalities[index])]
        facts = _facts(ensemble, float(tempi[index]), tonality, metre)
        while True:
            (caption,) = write_captions(facts, rng, 1)
            row = _row(caption, facts, ensemble)
            said = [row["tempo_bpm"] or row["tempo_word"], row["mode"], row["metre"]]
            if sum(map(bool, [*said, row["families"], row[TRADITION_KEY]])) >= FEWEST_FACTS:
                break
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the grammar's half of the score prompts.")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    lines = OUTPUT.read_text(encoding="utf-8").splitlines() if OUTPUT.is_file() else []
    own = [line for line in lines if json.loads(line)["wording"] == "own"]
    written = [json.dumps(row, ensure_ascii=False) for row in rows(given.seed)]
    OUTPUT.write_text("\n".join([*own, *written]) + "\n", encoding="utf-8")
    print(f"{len(written)} prompts of the grammar beside {len(own)} others in {OUTPUT}")


if __name__ == "__main__":
    main()
