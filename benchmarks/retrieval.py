"""Text-to-music retrieval: R@10 among 200 held-out clips, and AUC over named instruments.

Run: `python benchmarks/retrieval.py --held CLIPS --unseen CLIPS2`. CLIPS2 are held-out clips
rendered with a soundfont that the joint embedding was not trained on. Sentences have no numbers.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from held_clips import command_line, one_clip_per_piece, parser_of, report
from studies.retrieval import instrument_areas, instrument_interval, recall_figure

from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.figures import figure_of
from melisma.evaluate.models.text_features import without_numbers
from melisma.generation.resolve import model_folder
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.train.judge import clip_waveform


def embed_clips(tokenizers: AudioTokenizers, shards: AudioShards, clips: list[int]) -> np.ndarray:
    """Unit vectors of clips, float32 [clip, width]."""
    vectors = []
    for clip in clips:
        sound = torch.from_numpy(clip_waveform(shards, clip).samples)
        mean = tokenizers.embed_windows(sound)[0][0].mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    return np.stack(vectors)


def sentences(shards: AudioShards, clips: list[int]) -> list[str]:
    """The longest caption of each clip, numbers taken out."""
    found: list[str] = []
    for clip in clips:
        captions = shards.rows[clip]["captions"]
        assert isinstance(captions, list)
        found.append(without_numbers(max(captions, key=len)))
    return found


def main() -> None:
    """Embeds, compares and reports."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--unseen", type=Path, required=True, help="clips of an unseen soundfont")
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()
    tokenizers = AudioTokenizers.read(TokenizerPaths.of(model_folder(given.model)))
    shards = read_audio_shards(given.held)
    clips = one_clip_per_piece(shards, given.count)
    words = tokenizers.joint.embed_text(sentences(shards, clips))
    figures = [recall_figure(words, embed_clips(tokenizers, shards, clips), command_line())]
    other = read_audio_shards(given.unseen)
    chosen = one_clip_per_piece(other, 2 * given.count)
    played = [other.facts(clip).instruments for clip in chosen]
    counts = Counter(name for instruments in played for name in set(instruments))
    names = sorted(name for name, count in counts.items() if count >= 3)
    questions = tokenizers.joint.embed_text(names)
    music = embed_clips(tokenizers, other, chosen)
    areas = instrument_areas(questions, names, music, played)
    figures.append(
        figure_of(
            f"AUC over {len(areas)} named instruments, unseen soundfont",
            instrument_interval(questions, names, music, played),
            chance=0.5,
            ceiling=1.0,
            command=command_line(),
            details={name: round(area, 3) for name, area in sorted(areas.items())},
        )
    )
    report(figures, given.results / "retrieval.json")


if __name__ == "__main__":
    main()
