"""Do words find their music? R@10 among 200 held-out clips, and AUC over named instruments.

Run: `python benchmarks/retrieval.py --held CLIPS --unseen CLIPS2`. CLIPS2 are held-out clips
rendered with a soundfont that the joint embedding never heard. Sentences come without numbers.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from held_clips import command_line, one_clip_per_piece, parser_of, tell
from studies.retrieval import instrument_areas, instrument_interval, recall_figure

from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.figures import figure_of
from melisma.evaluate.models.text_features import without_numbers
from melisma.generation.loading import model_folder
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.train.judge import clip_waveform


def embed_clips(frozen: AudioTokenizers, ears: AudioShards, clips: list[int]) -> np.ndarray:
    """Unit vectors of clips, float32 [clip, width]."""
    vectors = []
    for clip in clips:
        sound = torch.from_numpy(clip_waveform(ears, clip).samples)
        mean = frozen.windows_of(sound)[0][0].mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    return np.stack(vectors)


def sentences(ears: AudioShards, clips: list[int]) -> list[str]:
    """The longest caption of each clip, numbers taken out."""
    found: list[str] = []
    for clip in clips:
        captions = ears.rows[clip]["captions"]
        assert isinstance(captions, list)
        found.append(without_numbers(max(captions, key=len)))
    return found


def main() -> None:
    """Embed, compare, tell."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--unseen", type=Path, required=True, help="clips of an unseen soundfont")
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()
    frozen = AudioTokenizers.read(TokenizerPaths.of(model_folder(given.model)))
    ears = read_audio_shards(given.held)
    clips = one_clip_per_piece(ears, given.count)
    words = frozen.joint.embed_text(sentences(ears, clips))
    figures = [recall_figure(words, embed_clips(frozen, ears, clips), command_line())]
    other = read_audio_shards(given.unseen)
    chosen = one_clip_per_piece(other, 2 * given.count)
    heard = [other.facts(clip).instruments for clip in chosen]
    counts = Counter(name for instruments in heard for name in set(instruments))
    names = sorted(name for name, count in counts.items() if count >= 3)
    questions = frozen.joint.embed_text(names)
    music = embed_clips(frozen, other, chosen)
    areas = instrument_areas(questions, names, music, heard)
    figures.append(
        figure_of(
            f"AUC over {len(areas)} named instruments, unseen soundfont",
            instrument_interval(questions, names, music, heard),
            chance=0.5,
            ceiling=1.0,
            command=command_line(),
            details={name: round(area, 3) for name, area in sorted(areas.items())},
        )
    )
    tell(figures, given.results / "retrieval.json")


if __name__ == "__main__":
    main()
