"""Training of the independent judge, and measurement of its references of real music.

The judge is trained on clips of the split *judge*, of other pieces and other soundfonts than the
model's training clips, and shares no weights with the models that it evaluates. A reference is
measured on clips (or scores) of the split *held*, once for each judge.
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
from melisma.generation.loading import load_codec
from melisma.generation.originality import MelodyOriginality
from melisma.generation.resolve import model_folder
from melisma.train.judge import JudgeTraining, clip_waveform, extract_corpus, train_judge
from melisma.values import Waveform
from melisma.values.errors import MelismaError

REFERENCE_PIECES = 400
"""Clips of a reference set (chosen: two halves of 200, as many as a card has outputs)."""
REFERENCE_EXCERPTS, REFERENCE_ARRANGED = 400, 100
"""Real excerpts and arrangements of a score reference."""
COARSE_LEVELS = 4
"""Codec levels of the coarse stage: its upper bound of audio quality is measured at this depth."""


def train_judge_of(
    clips: Path, target: Path, settings: JudgeSettings, training: JudgeTraining
) -> None:
    """Trains the judge.

    Args:
        clips: folder of audio shards.
        target: folder that the judge is written into.
        settings: of the network.
        training: of the training.
    """
    corpus = extract_corpus(
        read_audio_shards(clips), lambda done, of: print(f"features of {done} of {of} clips")
    )
    judge = train_judge(corpus, settings, training, print)
    judge.write(target, {"clips": len(corpus), "updates": training.updates})


def judge_of(model: Path) -> Judge:
    """The judge of a model folder, else the shipped one."""
    own = (model / CHECKPOINT_NAME).is_file()
    return Judge.read(model if own else model_folder("default"))


def measure_reference_of(clips: Path, model: Path, target: Path) -> None:
    """Measures the audio reference set and writes it into `target`.

    Args:
        clips: folder of held-out audio shards; clips are spread over as many works as possible.
        model: folder of a model, whose tokenizers are used.
        target: folder with the judge (the shipped one is used if it has none).
    """
    judge = judge_of(target)
    embeddings = [named_embedding(name, model=str(model), judge=judge) for name in OWN_EMBEDDINGS]
    shards = read_audio_shards(clips)
    chosen = spread_over_works([str(row["group"]) for row in shards.rows], REFERENCE_PIECES)
    write_reference(target / FILE_NAME, reference_of(shards, chosen, model, judge, embeddings))


def reference_of(
    shards: AudioShards, chosen: list[int], model: Path, judge: Judge, embeddings: list[Embedding]
) -> Reference:
    """Measures clips, and the loss of each in a round trip through the codec.

    Args:
        shards: the clips.
        chosen: indices of the clips to use.
        model: folder of a model with the codec.
        judge: the judge.
        embeddings: embedding models to measure with.
    """
    codec = load_codec(str(model))

    def through_codec(sound: Waveform) -> Waveform:
        return codec.decode(codec.encode(sound, COARSE_LEVELS))

    true = []
    for clip in chosen:
        captions = shards.rows[clip]["captions"]
        assert isinstance(captions, list)
        true.append(
            TruePiece(
                sound=clip_waveform(shards, clip),
                words=str(captions[0]),
                facts=shards.facts(clip),
                group=str(shards.rows[clip]["group"]),
                onsets_seconds=shards.onsets_seconds(clip),
            )
        )
    works = {piece.group for piece in true}
    fonts = sorted({str(shards.rows[clip]["soundfont"]) for clip in chosen})
    return measure_reference(
        f"{len(true)} held-out clips of {len(works)} works, rendered by {', '.join(fonts)}",
        true,
        through_codec,
        judge,
        embeddings,
        codec_fingerprint=codec.codec.fingerprint,
        levels=COARSE_LEVELS,
        codec_values=codec_metrics(),
        follow=lambda pieces: track(pieces, "measuring"),
    )


def codec_metrics() -> Callable[[TruePiece, Waveform], dict[str, float]]:
    """A function that measures the loss of a round trip, by the keys of `sound_card.CODEC_ROWS`.

    ViSQOL is included if it is installed.
    """
    try:
        scorer = visqol_scorer()
    except MelismaError:
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
    """Measures the score reference set and writes it into `target`.

    Args:
        corpora: folder of notation corpora; excerpts and arrangements are of their held-out pieces.
        model: folder of a model; its fingerprints of training pieces are used if it has any.
        target: folder to write to.
        splits: file with the split of each piece.
        seed: of the choice of excerpts.
    """
    sources = read_sources(corpora)
    split_of = assign_splits(sources, splits)
    held = [source for source in sources if split_of[source.identity] == "held"]
    rng = np.random.default_rng(seed)
    pieces = real_excerpts(held, rng, REFERENCE_EXCERPTS)
    pieces += arranged_songs(held, rng, REFERENCE_ARRANGED)
    originality = MelodyOriginality.read(model)
    nearest = None if originality is None else originality.shared
    pairs = tuple(
        (requested, measure_score(score, requested, None, nearest))
        for requested, score in track(pieces, "measuring")
    )
    name = f"{len(pairs)} openings of held-out pieces and arrangements"
    write_score_reference(target / SCORE_FILE_NAME, ScoreReference(name=name, pairs=pairs))
