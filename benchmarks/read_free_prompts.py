"""Attributes read from free prompts: our text tower against its teacher's nearest attribute.

Run: `python benchmarks/read_free_prompts.py JOINT_CHECKPOINT [--text]` (`--text` for a text tower
of stage one). For each prompt of `prompts/free_prompts.jsonl` and each attribute that it implies, a
reader names one class; it is right where the class is among the expected ones. The teacher's answer
is the class whose description is nearest to the prompt (best of a few wordings). Chance is the
share of classes that would be right. Intervals: 95 %, bootstrap over prompts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from melisma.joint import AttributePrediction, JointEmbedding
from melisma.joint.attributes import probabilities
from melisma.joint.tokenizer import encode_words, pad_tokens
from melisma.train.datasets.sentence_encoder import SentenceTeacher
from melisma.train.text import read_text
from melisma.values.attributes import (
    DENSITIES,
    DYNAMICS,
    FAMILIES,
    MOODS,
    REGISTERS,
    STYLES,
    TEMPO_BINS,
    TONALITIES,
    bin_tempo_bpm,
)

PROMPTS = Path(__file__).parent / "prompts" / "free_prompts.jsonl"
SLOW_BELOW_BPM, FAST_FROM_BPM = 80.0, 114.0
"""Edges of the tempo words, as in `melisma.data.captions.vocabulary`."""

CLASSES: dict[str, tuple[str, ...]] = {
    "tempo": ("slow", "moderate", "fast"),
    "dynamics": DYNAMICS,
    "density": DENSITIES,
    "register": REGISTERS,
    "style": STYLES,
    "moods": MOODS,
    "families": FAMILIES,
    "mode": ("major", "minor"),
}
WORDINGS: dict[str, tuple[str, ...]] = {
    "tempo": ("{} music", "music at a {} tempo"),
    "dynamics": ("{} music", "a {} piece"),
    "density": ("{} music", "music with a {} texture"),
    "register": ("{} music", "music in a {} register"),
    "style": ("{}", "{} music", "a {} piece"),
    "moods": ("{}", "{} music", "a {} mood"),
    "families": ("{}", "{} music", "music for {}"),
    "mode": ("music in {}", "a {} key"),
}


def read_classes(reading: AttributePrediction) -> dict[str, str]:
    """The class of each attribute that the tower finds likeliest."""
    tempo = np.array(list(reading.probabilities("tempo").values()))
    tempi = np.array([bin_tempo_bpm(i) for i in range(TEMPO_BINS)])
    shares = {
        "slow": tempo[tempi < SLOW_BELOW_BPM].sum(),
        "moderate": tempo[(tempi >= SLOW_BELOW_BPM) & (tempi < FAST_FROM_BPM)].sum(),
        "fast": tempo[tempi >= FAST_FROM_BPM].sum(),
    }
    tonality = reading.probabilities("tonality")
    major = sum(tonality[t] for t in TONALITIES if t.endswith("major"))
    found = {name: reading.best(name)[0] for name in CLASSES if name not in ("tempo", "mode")}
    found["tempo"] = max(shares, key=lambda name: shares[name])
    found["mode"] = "major" if major >= 0.5 else "minor"
    return found


def nearest_classes(prompts: list[str]) -> list[dict[str, str]]:
    """The teacher's nearest class of each attribute."""
    teacher = SentenceTeacher()
    vectors = teacher.embed(prompts)
    answers: list[dict[str, str]] = [{} for _ in prompts]
    for name, classes in CLASSES.items():
        wordings = [w.format(c) for c in classes for w in WORDINGS[name]]
        scores = vectors @ teacher.embed(wordings).T
        best = scores.reshape(len(prompts), len(classes), -1).max(axis=2).argmax(axis=1)
        for answer, index in zip(answers, best, strict=True):
            answer[name] = classes[int(index)]
    return answers


def interval(hits: list[list[float]], seed: int = 0) -> tuple[float, float, float]:
    """Mean over all answers, and its 95 % bootstrap interval over prompts."""
    rng = np.random.default_rng(seed)
    sums = np.array([[sum(h), len(h)] for h in hits if h])
    resampled = sums[rng.integers(len(sums), size=(2_000, len(sums)))].sum(axis=1)
    ratios = np.sort(resampled[:, 0] / resampled[:, 1])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(ratios[50]), float(ratios[1949])


def readings(path: Path, text_only: bool, prompts: list[str]) -> list[AttributePrediction]:
    """What the tower in the checkpoint reads in the prompts."""
    if not text_only:
        return JointEmbedding.read(path).read_attributes(prompts)
    tower, tokenizer = read_text(path)
    with torch.no_grad():
        logits = tower(*pad_tokens(encode_words(tokenizer, prompts))).logits
    return [AttributePrediction(row=row) for row in probabilities(logits).numpy()]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--text", action="store_true", help="a text tower of stage one")
    parser.add_argument("--list", action="store_true", help="print every answer")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    prompts = [line["prompt"] for line in lines]
    ours = [read_classes(r) for r in readings(arguments.checkpoint, arguments.text, prompts)]
    theirs = nearest_classes(prompts)
    names = [n for n in CLASSES if any(n in line["expect"] for line in lines)]
    print(f"{'attribute':10} {'n':>4} {'chance':>7} {'teacher':>22} {'ours':>22}")
    for name in [*names, "all"]:
        chance, found = [], {"teacher": [], "ours": []}
        for line, our, their in zip(lines, ours, theirs, strict=True):
            wanted = {k: v for k, v in line["expect"].items() if name in (k, "all")}
            wanted = {k: v if isinstance(v, list) else [v] for k, v in wanted.items()}
            chance += [len(set(v)) / len(CLASSES[k]) for k, v in wanted.items()]
            found["ours"].append([float(our[k] in v) for k, v in wanted.items()])
            found["teacher"].append([float(their[k] in v) for k, v in wanted.items()])
        cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*interval(found[w])) for w in found]
        print(f"{name:10} {len(chance):4} {np.mean(chance):7.2f} {cells[0]:>22} {cells[1]:>22}")
    if arguments.list:
        for line, our in zip(lines, ours, strict=True):
            print(line["prompt"], {k: (our[k], our[k] in v) for k, v in line["expect"].items()})


if __name__ == "__main__":
    main()
