"""What judges: the independent judge, and the references of real music that it measures.

The judge learns from clips of the split *judge*, of other pieces and other soundfonts than the
model's; it shares no weight with what it judges. A reference is made of clips (or of scores) of the
split *held*, once for each judge.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.progress import track

from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.data.sources.pieces import read_sources
from melisma.data.sources.splits import assign_splits, spread_over_works
from melisma.evaluate.metrics.fidelity import (
    log_mel_distance,
    onset_ratio,
    opinion_score,
    si_sdr_db,
    visqol_scorer,
)
from melisma.evaluate.metrics.score_adherence import measure_score
from melisma.evaluate.models.embeddings import OWN_EMBEDDINGS, Embedding, named_embedding
from melisma.evaluate.models.judge import CHECKPOINT_NAME, Judge, JudgeSettings
from melisma.evaluate.references.audio import (
    FILE_NAME,
    Reference,
    TruePiece,
    measure_reference,
    write_reference,
)
from melisma.evaluate.references.score import FILE_NAME as SCORE_FILE_NAME
from melisma.evaluate.references.score import ScoreReference, write_score_reference
from melisma.evaluate.references.score_requests import arranged_songs, real_excerpts
from melisma.generation.loading import load_codec, model_folder
from melisma.generation.originality import ScoreOriginality
from melisma.train.judge import JudgeTraining, clip_waveform, extract_corpus, train_judge
from melisma.values import Waveform

REFERENCE_PIECES = 400
"""Clips of a reference set (chosen: halves of 200, as many as a card's outputs)."""
REFERENCE_OPENINGS, REFERENCE_ARRANGED = 400, 100
"""Real pieces and arrangements of a score reference."""
DRAWN_LEVELS = 4
"""Codec levels that the coarse stage draws: what the ceiling of sound is measured at."""


def train_judge_of(
    clips: Path, target: Path, settings: JudgeSettings, training: JudgeTraining
) -> None:
    """Trains the judge on a folder of clips and writes it into the folder `target`."""
    lessons = extract_corpus(
        read_audio_shards(clips), lambda done, of: print(f"heard {done} of {of} clips")
    )
    judge = train_judge(lessons, settings, training, print)
    judge.write(target, {"clips": len(lessons), "updates": training.updates})


def judge_of(model: Path) -> Judge:
    """The judge of a model's folder, else the shipped one."""
    own = (model / CHECKPOINT_NAME).is_file()
    return Judge.read(model if own else model_folder("default"))


def measure_reference_of(clips: Path, model: Path, target: Path) -> None:
    """Measures held-out clips, one of each work as far as they reach, by the judge in `target` (the
    shipped one if it has none) and the ears of a model; written into `target`."""
    judge = judge_of(target)
    embeddings = [named_embedding(name, model=str(model), judge=judge) for name in OWN_EMBEDDINGS]
    ears = read_audio_shards(clips)
    chosen = spread_over_works([str(row["group"]) for row in ears.rows], REFERENCE_PIECES)
    write_reference(target / FILE_NAME, reference_of(ears, chosen, model, judge, embeddings))


def reference_of(
    ears: AudioShards, chosen: list[int], model: Path, judge: Judge, embeddings: list[Embedding]
) -> Reference:
    """The reference set of clips, with what the codec loses of each."""
    codec = load_codec(str(model))

    def through_codec(sound: Waveform) -> Waveform:
        return codec.decode(codec.encode(sound, DRAWN_LEVELS))

    true = []
    for clip in chosen:
        captions = ears.rows[clip]["captions"]
        assert isinstance(captions, list)
        true.append(
            TruePiece(
                sound=clip_waveform(ears, clip),
                words=str(captions[0]),
                facts=ears.facts(clip),
                group=str(ears.rows[clip]["group"]),
                onsets_seconds=ears.onsets_seconds(clip),
            )
        )
    works = {piece.group for piece in true}
    fonts = sorted({str(ears.rows[clip]["soundfont"]) for clip in chosen})
    return measure_reference(
        f"{len(true)} held-out clips of {len(works)} works, rendered by {', '.join(fonts)}",
        true,
        through_codec,
        judge,
        embeddings,
        codec_fingerprint=codec.codec.fingerprint,
        levels=DRAWN_LEVELS,
        codec_values=codec_ruler(),
        follow=lambda pieces: track(pieces, "measuring"),
    )


def codec_ruler() -> Callable[[TruePiece, Waveform], dict[str, float]]:
    """What a round trip loses, by the keys of `sound_card.CODEC_ROWS`; ViSQOL where it is there."""
    try:
        scorer = visqol_scorer()
    except ValueError:
        scorer = None

    def measure(piece: TruePiece, coded: Waveform) -> dict[str, float]:
        values = {
            "codec_log_mel": log_mel_distance(piece.sound, coded),
            "codec_si_sdr": si_sdr_db(piece.sound, coded),
        }
        if piece.onsets_seconds is not None:
            values["codec_onsets"] = onset_ratio(piece.onsets_seconds, piece.sound, coded)
        if scorer is not None:
            values["codec_visqol"] = opinion_score(piece.sound, coded, scorer)
        return values

    return measure


def measure_score_reference_of(
    corpora: Path,
    model: Path,
    target: Path,
    splits: Path,
    seed: int = 0,
) -> None:
    """Measures openings of held-out pieces and arrangements, with the prints of the training
    pieces where the model has them; written into `target`. `splits`: the file that remembers which
    pieces are held out."""
    sources = read_sources(corpora)
    fates = assign_splits(sources, splits)
    held = [source for source in sources if fates[source.identity] == "held"]
    rng = np.random.default_rng(seed)
    pieces = real_excerpts(held, rng, REFERENCE_OPENINGS)
    pieces += arranged_songs(held, rng, REFERENCE_ARRANGED)
    originality = ScoreOriginality.read(model)
    nearest = None if originality is None else originality.shared
    pairs = tuple(
        (wish, measure_score(score, wish, None, nearest))
        for wish, score in track(pieces, "measuring")
    )
    name = f"{len(pairs)} openings of held-out pieces and arrangements"
    write_score_reference(target / SCORE_FILE_NAME, ScoreReference(name=name, pairs=pairs))
