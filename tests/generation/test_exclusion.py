"""What a prompt excludes does not play: in scores by construction, in sound as far as it goes."""

from __future__ import annotations

import pytest
import torch
from small_corpus import line, score
from small_score_model import small_score_composer

from melisma.generation.conditioning.prompt import absent_families, condition_on_prompt
from melisma.generation.conditioning.spoken import spoken
from melisma.generation.score.instrumentation import excluded_programs, instruments_in
from melisma.generation.score.pipeline import ScoreContext, ScorePiece
from melisma.joint.instrument_words import instrument_families
from melisma.symbolic.events import program_of
from melisma.values import Prompt
from melisma.values.attributes import FAMILIES, program_family
from melisma.values.errors import MelismaError
from melisma.values.events import DRUM_PROGRAM
from melisma.values.score_prompt import ScorePrompt

EXCLUSIONS: tuple[tuple[str, str], ...] = (
    ("no drums", "drums"),
    ("jazz quartet without saxophone", "reeds"),
    ("full orchestra, I do not want a brass section", "brass"),
    ("anything but strings", "strings"),
    ("drumless funk", "drums"),
    ("no piano, only drums", "piano"),
    ("no singing, no choir", "choir"),
)


def composed(prompt: ScorePrompt, context: ScoreContext | None = None, seed: int = 1) -> ScorePiece:
    return small_score_composer().generate_pieces(prompt, context=context, seed=seed, best_of=1)[0]


def families_of(piece: ScorePiece) -> set[str]:
    return {program_family(track.program, track.is_drum) for track in piece.score.tracks}


@pytest.mark.parametrize(("words", "family"), EXCLUSIONS)
def test_a_score_has_no_part_of_what_is_excluded(words: str, family: str) -> None:
    for seed in range(3):
        assert family not in families_of(composed(ScorePrompt(words=words, bars=2), seed=seed))


def test_the_setting_excludes_without_any_words() -> None:
    without = tuple(name for name in FAMILIES if name not in ("flutes", "accordion", "harp"))
    for seed in range(3):
        piece = composed(ScorePrompt(without=without, bars=2), seed=seed)
        assert families_of(piece) <= {"flutes", "accordion", "harp"}


def test_only_what_is_named_plays() -> None:
    for words in ("only drums", "nothing but drums", "drums only, no piano"):
        piece = composed(ScorePrompt(words=words, bars=2))
        assert {program_of(track) for track in piece.score.tracks} == {DRUM_PROGRAM}


def test_an_ensemble_plays_without_one_of_its_instruments() -> None:
    piece = composed(ScorePrompt(words="jazz quartet without saxophone", bars=2))
    assert {program_of(track) for track in piece.score.tracks} <= {0, 32, DRUM_PROGRAM}
    assert instruments_in("no string quartet, a harp") == instruments_in("a harp")


def test_excluded_parts_of_a_given_piece_are_silent_in_the_new_bars() -> None:
    melody, bass = line([60, 62, 64, 65] * 4, 40), line([36, 43] * 8, 33)
    given = ScoreContext(continue_from=score(melody, bass, bpm=100.0))
    piece = composed(ScorePrompt(words="go on, without bass", bars=3, has_prefix=True), given)
    [kept] = [track for track in piece.score.tracks if track.program == 33]
    assert len(kept.notes) == len(bass.notes)
    with pytest.raises(MelismaError, match="no part but those that are excluded"):
        composed(ScorePrompt(without=("violin", "bass"), bars=2, has_prefix=True), given)


def test_an_accompaniment_has_no_excluded_parts() -> None:
    given = ScoreContext(melody=score(line([60, 62, 64, 65] * 4, 40)))
    for seed in range(3):
        piece = composed(ScorePrompt(words="no piano, no drums", has_prefix=True), given, seed)
        assert not families_of(piece) & {"piano", "electric piano", "drums"}


def test_contradictions_are_refused() -> None:
    with pytest.raises(MelismaError, match="requested by the instruments and excluded"):
        composed(ScorePrompt(programs=(0, 40), without=("piano",), bars=2))
    with pytest.raises(MelismaError, match="all instruments are excluded"):
        composed(ScorePrompt(without=tuple(instrument_families()), bars=2))
    with pytest.raises(MelismaError, match='no instrument "pino" to leave out: did you mean piano'):
        composed(ScorePrompt(without=("pino",), bars=2))
    override = composed(ScorePrompt(words="no piano", programs=(0,), bars=2))
    assert {track.program for track in override.score.tracks} == {0}


def test_single_instruments_are_excluded_alone() -> None:
    assert excluded_programs("clarinet, no oboe") == {"oboe": frozenset({68})}
    assert 71 not in frozenset().union(*excluded_programs("clarinet, no saxophone").values())


def test_sound_is_not_conditioned_on_what_is_excluded() -> None:
    joint = small_score_composer().joint
    for words, family in EXCLUSIONS:
        prompt = Prompt(words=words)
        found = condition_on_prompt(joint, prompt, torch.Generator().manual_seed(0))
        assert family in found.absent
        assert family not in found.families
        assert found.attributes.get("lead") != FAMILIES.index(family)
        assert family not in joint.read_prompt(found.words).stated.families
    listed = condition_on_prompt(
        joint, Prompt(words="a rock song", without=("drums",)), torch.Generator().manual_seed(0)
    )
    assert listed.absent == ("drums",)
    assert "drums" not in listed.families


def test_only_excludes_every_other_family_of_sound() -> None:
    assert set(absent_families(Prompt(words="only drums"))) == set(FAMILIES) - {"drums"}


def test_the_words_of_a_model_that_reads_words_alone() -> None:
    assert spoken(Prompt(words="piano ballad without drums")) == "piano ballad"
    assert spoken(Prompt(words="no drums")) == "music"
