"""What a request is given beside its words: melodies and scores, from values or files of any kind.

A file is what its first bytes say, whatever its name: a melody may be a recording or a MIDI file,
for audio and for scores alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from melisma.files.audio.formats import HEAD_BYTES, MIDI_ENDINGS, FileFormat, format_of
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.recording import recording_of
from melisma.generation.requests.checks import checked_path
from melisma.generation.score.hummed import (
    HummedMelody,
    score_of_tune,
    tune_of_score,
    with_tempo_and_metre,
)
from melisma.generation.score.instrumentation import requested_programs
from melisma.joint.settings_words import read_bar_metre, read_metre, read_tempo
from melisma.melody import Tune, extract_tune
from melisma.recordings import read_and_repair, repaired_audio
from melisma.sound.repair import repaired
from melisma.symbolic.midi import midi_bytes, read_midi
from melisma.values import Score, Waveform
from melisma.values.errors import MelismaError
from melisma.values.events import BAR_METRES
from melisma.values.prompt import CONTINUED_SECONDS, MAX_SECONDS
from melisma.values.score_prompt import ScorePrompt, parse_time_signature


def file_format(path: Path) -> FileFormat | None:
    """The format of a file by its first bytes; None where it is unknown, or where the path is a
    pipe or a device, of which bytes that are looked at would be gone.

    Raises:
        MelismaError: There is no such file, or it is a folder.
        OSError: It cannot be read.
    """
    if path.is_dir():
        raise MelismaError(f"{path} is a folder: give the name of a file inside it")
    if not path.exists():
        raise MelismaError(f"there is no file {path}: check the name")
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return format_of(file.read(HEAD_BYTES))


def holds_notes(path: Path) -> bool:
    """Whether a file is a MIDI file: by its bytes, else, where these say nothing, by its name."""
    found = file_format(path)
    if found is None or found.group == "no sound":
        return path.suffix.lower() in MIDI_ENDINGS
    return found.group == "notes"


def score_of(score: Score | Path | str | None) -> Score | None:
    """A score as it is, or that of a MIDI file.

    Raises:
        MelismaError: The file is missing or is no MIDI file; the message names it.
    """
    if score is None or isinstance(score, Score):
        return score
    path = checked_path("a score", score)
    found = file_format(path)
    if found is not None and found.group in ("readable", "sound", "video"):
        raise MelismaError(
            f"{path} is a sound file ({found.name}), and a MIDI file is needed here: `melisma "
            "generate --continue-from` continues sound, `melisma compose --melody` takes a melody "
            "from it"
        )
    try:
        return read_midi(midi_bytes(path))
    except MelismaError as error:
        raise _of_file(path, error) from error


def _of_file(path: Path, error: MelismaError) -> MelismaError:
    """The same error with the name of the file, if it lacks it."""
    return error if str(path) in str(error) else MelismaError(f"{path}: {error}")


def melody_for_sound(
    melody: Waveform | Score | Path | str | None, seconds: float = MAX_SECONDS
) -> tuple[Waveform | Tune | None, tuple[str, ...]]:
    """The melody that audio follows: a recording, or the tune of a score.

    Args:
        melody: What is followed.
        seconds: How much of the beginning of a file is needed.

    Returns:
        The melody, and remarks on its file.

    Raises:
        MelismaError: The file cannot be read, or its score has no pitched note.
    """
    if melody is None:
        return None, ()
    if isinstance(melody, Waveform):
        return repaired(melody, "the melody")
    if isinstance(melody, Score):
        return tune_of_score(melody), ()
    path = checked_path("a melody", melody)
    if not holds_notes(path):
        # What follows has an effect on the last samples where the rate is changed.
        found = read_and_repair(path, first_seconds=seconds + 1.0)
        return found.waveform, found.remarks
    score = score_of(path)
    assert score is not None
    try:
        return tune_of_score(score), ()
    except MelismaError as error:
        raise _of_file(path, error) from error


def melody_for_score(
    melody: Waveform | Score | Path | str | None,
    *,
    words: str = "",
    tempo_bpm: float | None = None,
    metre: tuple[int, int] | None = None,
    programs: Sequence[int] = (),
    without: Sequence[str] = (),
) -> tuple[Score | None, HummedMelody | None]:
    """The melody that a score accompanies: that of a score, or of a recording, written down.

    Args:
        melody: A score, a MIDI file or a recording.
        words: Of the prompt, whose tempo and metre a recording is written down in, and whose first
            instrument that has the range gets its tune.
        tempo_bpm: Felt beats per minute; overrides the words and the file.
        metre: Time signature; overrides the words and the file.
        programs: Instruments for the tune of a recording; override the words.
        without: Names of instruments that do not play.

    Returns:
        The score, and what was found in the recording, if it is one.

    Raises:
        MelismaError: The file cannot be read, or the recording has no melody.
    """
    if melody is None:
        return None, None
    if not isinstance(melody, Score | Waveform):
        melody = checked_path("a melody", melody)
        melody = score_of(melody) if holds_notes(melody) else melody
    if isinstance(melody, Score):
        return with_tempo_and_metre(melody, tempo_bpm=tempo_bpm, metre=metre), None
    assert melody is not None
    remarks: tuple[str, ...] = ()
    if not isinstance(melody, Waveform):
        path = melody
        found = read_and_repair(path, first_seconds=MAX_SECONDS)
        melody, remarks = found.waveform, found.remarks
        if melody.seconds >= MAX_SECONDS:
            remarks += (f"of {path.name} the first {MAX_SECONDS:g} s are taken",)
    notated = score_of_tune(
        _tune_of(melody),
        tempo_bpm=tempo_bpm or read_tempo(words),
        metre=metre or _metre_of(words),
        programs=requested_programs(words, programs, without),
    )
    return notated.score, replace(notated, remarks=(*remarks, *notated.remarks))


def melody_for_prompt(
    melody: Waveform | Score | Path | str | None, prompt: ScorePrompt
) -> tuple[Score | None, HummedMelody | None]:
    """As `melody_for_score`, for a prompt with its settings."""
    return melody_for_score(
        melody,
        words=prompt.words,
        tempo_bpm=prompt.tempo_bpm,
        metre=prompt.metre,
        programs=prompt.programs,
        without=prompt.without,
    )


def _tune_of(sound: Waveform) -> Tune:
    """The tune of a voice alone, or else the lead of a mix."""
    try:
        return extract_tune(sound)
    except MelismaError:
        return extract_tune(sound, accompanied=True)


def _metre_of(words: str) -> tuple[int, int] | None:
    """The metre that words state."""
    written = read_bar_metre(words)
    if written in BAR_METRES:
        return written
    named = read_metre(words)
    return None if named is None else parse_time_signature(named)


def metre_name(metre: tuple[int, int]) -> str:
    """A metre as `Prompt` has it, e.g. "3/4"."""
    return f"{metre[0]}/{metre[1]}"


def audio_context(
    melody: Waveform | Score | Path | str | None,
    continue_from: Waveform | Path | str | None,
    keep_seconds: float = CONTINUED_SECONDS,
    *,
    whole: bool = False,
    seconds: float = MAX_SECONDS,
) -> AudioConditions:
    """The audio that pieces are given, from waveforms or files.

    Args:
        melody: What is followed.
        continue_from: A recording, whose end is continued.
        keep_seconds: How much of its end is kept.
        whole: Whether the piece begins with all of the recording.
        seconds: Length of the longest piece.

    Raises:
        MelismaError: A file cannot be read, or holds nothing to follow or to continue; `whole`
            without a recording.
    """
    followed, remarks = melody_for_sound(melody, seconds)
    if continue_from is None:
        if whole:
            raise MelismaError("whole applies to continue_from: give a recording")
        return AudioConditions(melody=followed, remarks=remarks)
    if not isinstance(continue_from, Waveform):
        continue_from = checked_path("a recording", continue_from)
    recording = recording_of(continue_from, keep_seconds, whole=whole)
    return AudioConditions(
        melody=followed,
        beginning=recording.beginning,
        before=recording.before,
        whole=whole,
        gain_db=recording.gain_db,
        remarks=(*remarks, *recording.remarks),
    )


def waveform_of(audio: Waveform | Path | str) -> Waveform:
    """A waveform as it is, or that of a file, repaired; remarks become Python warnings."""
    if isinstance(audio, Waveform):
        return audio
    return repaired_audio(checked_path("a recording", audio))


def notes_of(
    *,
    melody: object = None,
    continue_from: object = None,
    keep_seconds: float | None = None,
    whole: bool = False,
    precision: str | None = None,
) -> dict[str, object]:
    """What the provenance says of files that were given, by their names alone."""
    notes: dict[str, object] = {}
    if isinstance(melody, Path | str):
        notes["melody"] = Path(melody).name
    if isinstance(continue_from, Path | str):
        notes["continue_from"] = Path(continue_from).name
        if keep_seconds is not None:
            notes["keep_seconds"] = keep_seconds
        if whole:
            notes["whole"] = True
    if precision is not None:
        notes["precision"] = precision
    return notes
