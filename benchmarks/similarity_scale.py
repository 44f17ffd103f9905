"""What is a good similarity? That of pieces with their own prompt, and with those of other pieces.

Run: `python benchmarks/similarity_scale.py [--seconds 6] [--best-of 2]`. Twelve prompts that have
little in common; the 95th percentile of foreign pairs is `GOOD_SIMILARITY` of
`melisma/generation/ranking.py`.
"""

from __future__ import annotations

import json

import numpy as np
from held_clips import command_line, parser_of

from melisma.generation.loading import load
from melisma.generation.musiclm import MusicLM
from melisma.generation.ranking import embed_sound
from melisma.values import Prompt

TEXTS = (
    "a slow piano waltz", "energetic rock with drums and electric guitar", "sad cello solo",
    "a calm harp piece", "brass fanfare, solemn", "lo-fi beat with electric piano",
    "a baroque harpsichord dance", "dark strings, tense", "happy accordion polka",
    "church organ hymn", "flute and guitar, folk", "synth arpeggios, video game",
)  # fmt: skip
BATCH = 4


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--best-of", type=int, default=2)
    options = parser.parse_args()
    pipeline = load(options.model)
    assert isinstance(pipeline, MusicLM), "the similarity is that of our own models"
    vectors = []
    for first in range(0, len(TEXTS), BATCH):
        prompts = [
            Prompt(words=text, duration_seconds=options.seconds)
            for text in TEXTS[first : first + BATCH]
        ]
        for piece in pipeline.generate_pieces(prompts, seed=first, best_of=options.best_of):
            mean = embed_sound(pipeline.tokenizers, piece.sound)[0].mean(axis=0)
            vectors.append(mean / np.linalg.norm(mean))
    table = np.stack(vectors) @ pipeline.tokenizers.joint.embed_text(list(TEXTS)).T
    own, foreign = np.diag(table), table[~np.eye(len(TEXTS), dtype=bool)]
    figures = {
        "command": command_line(),
        "own": {"mean": float(own.mean()), "least": float(own.min()), "most": float(own.max())},
        "foreign": {"mean": float(foreign.mean()), "p95": float(np.percentile(foreign, 95))},
    }
    print(json.dumps(figures, indent=2))
    path = options.results / "similarity_scale.json"
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
