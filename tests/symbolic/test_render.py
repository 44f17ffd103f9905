"""A score sounds as it is written: pitch, time, place, level; stems add up to the mix."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_soundfont import TONE_HZ, Sound, full_bank, write_soundfont

from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.symbolic import render as rendering
from melisma.symbolic.mixing.mixer import MixerSettings, highest_peak
from melisma.symbolic.mixing.panning import MAX_PAN, stage_pans
from melisma.symbolic.playback import MAX_NOTE_SECONDS, choose_preset, performed_part
from melisma.symbolic.render import MAX_PARTS, Rendering, RenderSettings, render_score
from melisma.symbolic.soundfont.discovery import packaged_soundfont
from melisma.symbolic.soundfont.fluidsynth import has_fluidsynth
from melisma.symbolic.soundfont.presets import read_soundfont
from melisma.symbolic.soundfont.sampler import NumpySynthesizer
from melisma.values import Notes, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError

RATE_HZ = 44_100
FONT = packaged_soundfont()
ENGINES = [
    pytest.param(
        "fluidsynth", marks=pytest.mark.skipif(not has_fluidsynth(), reason="needs FluidSynth")
    ),
    "own",
]
DRY = MixerSettings(room="dry")


def part(
    pitches: list[int],
    program: int,
    *,
    start: float = 0.0,
    step: float = 1.0,
    length: float | None = None,
    is_drum: bool = False,
    velocity: int = 90,
    name: str = "",
) -> Track:
    """One pitch after another, every `step` beats."""
    count = len(pitches)
    notes = Notes(
        start_beats=start + np.arange(count) * step,
        duration_beats=np.full(count, step if length is None else length),
        pitch=np.array(pitches, dtype=np.int64),
        velocity=np.full(count, velocity, dtype=np.int64),
    )
    return Track(notes=notes, program=program, is_drum=is_drum, name=name)


def score(*tracks: Track, bpm: float = 60.0) -> Score:
    """At 60 beats a minute a beat is a second."""
    return Score(tracks=tracks, tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, bpm)))


def sound_of(piece: Score, engine: str | None = "own", mixer: MixerSettings = DRY) -> Rendering:
    """Rendered with the soundfont that comes with the dependencies."""
    return render_score(piece, RenderSettings(soundfont=FONT, engine=engine, mixer=mixer))


def loudest_hz(sound: np.ndarray) -> float:
    """Frequency of the highest line of a spectrum, float32 [sample] at 44.1 kHz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * RATE_HZ))
    return float(spectrum.argmax()) / 8


def onset_seconds(sound: np.ndarray) -> float:
    """When the sound first reaches a tenth of its peak."""
    return float(np.argmax(np.abs(sound) > 0.1 * np.abs(sound).max())) / RATE_HZ


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("room", ["dry", "studio", "hall"])
def test_a_note_sounds_at_its_pitch_and_time_and_ends(engine: str, room: str) -> None:
    mix = sound_of(score(part([69], 73, start=1.0)), engine, MixerSettings(room=room)).mix
    assert mix.samples.shape[0] == 2
    assert mix.rate_hz == RATE_HZ
    sound = mix.mono
    assert loudest_hz(sound[int(1.2 * RATE_HZ) : int(1.9 * RATE_HZ)]) == pytest.approx(440, abs=4)
    assert onset_seconds(sound) == pytest.approx(1.0, abs=0.03)
    peak = np.abs(sound).max()
    assert np.abs(sound[: int(0.99 * RATE_HZ)]).max() < 1e-3 * peak
    assert np.abs(sound[-200:]).max() < 1e-2 * peak
    assert 2.0 <= mix.seconds < 5.0


@pytest.mark.skipif(not has_fluidsynth(), reason="needs FluidSynth")
@pytest.mark.parametrize("program", [0, 6, 11, 24, 33, 40, 48, 56, 60, 71, 73])
def test_both_synthesizers_agree_in_pitch_time_and_level(program: int) -> None:
    low = 40 if program == 33 else 62
    piece = score(part([low, low + 7], program, start=0.5, step=0.8))
    one, other = (sound_of(piece, engine).mix for engine in ("fluidsynth", "own"))
    assert onset_seconds(one.mono) == pytest.approx(onset_seconds(other.mono), abs=0.01)
    smooth = np.hanning(31)
    for begin in (0.6, 1.4):
        stretch = slice(int(begin * RATE_HZ), int((begin + 0.6) * RATE_HZ))
        lines = [
            np.convolve(np.abs(np.fft.rfft(sound.mono[stretch])), smooth, "same")
            for sound in (one, other)
        ]
        assert np.dot(*lines) / np.linalg.norm(lines[0]) / np.linalg.norm(lines[1]) > 0.9
        levels = [np.sqrt(np.mean(sound.mono[stretch] ** 2)) for sound in (one, other)]
        assert abs(20 * np.log10(levels[0] / levels[1])) < 3


def band() -> Score:
    """Two violins, piano, bass and drums, two seconds."""
    return score(
        part([76, 79, 83, 79], 40, step=0.5),
        part([72, 76, 79, 76], 40, step=0.5),
        part([60, 64, 67, 64], 0, step=0.5),
        part([36, 43, 36, 43], 33, step=0.5),
        part([36, 42, 38, 42], 0, step=0.5, is_drum=True),
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("room", ["dry", "hall"])
def test_stems_add_up_to_the_mix(engine: str, room: str) -> None:
    piece = band()
    done = sound_of(piece, engine, MixerSettings(room=room, stems=True))
    assert len(done.stems) == len(piece.tracks)
    for stem in done.stems:
        assert stem.samples.shape == done.mix.samples.shape
        assert np.abs(stem.samples).max() > 1e-3
    total = np.sum([stem.samples for stem in done.stems], axis=0)
    np.testing.assert_allclose(total, done.mix.samples, atol=2e-6)
    # The two violins stay two.
    assert not np.allclose(done.stems[0].samples, done.stems[1].samples, atol=1e-3)
    alone = sound_of(piece, engine, MixerSettings(room=room)).mix
    np.testing.assert_allclose(alone.samples, done.mix.samples, atol=1 / 32_768)


def test_stems_that_do_not_fit_into_memory_are_played_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("melisma.symbolic.mixing.mixer._CACHE_BYTES", 1_000_000)
    done = sound_of(band(), "own", replace(DRY, stems=True))
    total = np.sum([stem.samples for stem in done.stems], axis=0)
    np.testing.assert_allclose(total, done.mix.samples, atol=2e-6)


def test_strings_sit_left_to_right_and_basses_in_the_middle() -> None:
    quartet = score(part([76], 40), part([72], 40), part([60], 41), part([48], 42))
    pans = stage_pans(quartet.tracks)
    assert pans[0] < pans[1] < 0 < pans[2] < pans[3] <= MAX_PAN
    stems = sound_of(quartet, mixer=MixerSettings(room="studio", stems=True)).stems
    balance = [10 * np.log10(np.sum(s.samples[0] ** 2) / np.sum(s.samples[1] ** 2)) for s in stems]
    assert balance[0] > 3
    assert balance[3] < -3
    assert balance[0] > balance[1] > balance[2] > balance[3]
    low = sound_of(score(part([36], 33), part([60], 24), part([72], 73)), mixer=DRY).mix
    assert low.samples.shape[0] == 2
    tracks = (part([36], 33), part([60], 0), part([48], 0), part([80], 73), part([64], 25))
    bass, right_hand, left_hand, tune, guitar = stage_pans(tracks)
    assert (bass, tune) == (0.0, 0.0)
    assert right_hand == left_hand != 0.0
    assert np.sign(guitar) == -np.sign(right_hand)


@pytest.mark.parametrize("target_lufs", [-16.0, -23.0])
def test_the_mix_has_its_loudness_and_keeps_below_the_ceiling(target_lufs: float) -> None:
    chords = score(*(part([p] * 4, 48, step=1.0) for p in (60, 64, 67)))
    mix = sound_of(chords, mixer=MixerSettings(room="studio", target_lufs=target_lufs)).mix
    assert integrated_lufs(mix) == pytest.approx(target_lufs, abs=0.5)
    assert true_peak_db(mix) < -1.0


def test_a_piece_of_peaks_stays_softer_rather_than_clipped() -> None:
    clicks = score(part([37] * 3, 0, step=1.5, is_drum=True, velocity=120))
    mix = sound_of(clicks).mix
    lufs = integrated_lufs(mix)
    assert lufs is not None
    assert lufs < -17
    assert -1.3 < true_peak_db(mix) < -1.0
    assert np.abs(mix.samples).max() < 0.9


def test_peaks_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.random.default_rng(0).standard_normal((2, 5_000)).astype(np.float32)
    whole = true_peak_db(Waveform(samples=sound, rate_hz=RATE_HZ))
    monkeypatch.setattr("melisma.symbolic.mixing.mixer._BLOCK_SAMPLES", 700)
    assert 20 * np.log10(highest_peak(sound)) == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_score_is_the_same_sound_whatever_was_before(engine: str) -> None:
    piece = band()
    first = sound_of(piece, engine).mix.samples
    sound_of(score(part([50, 90], 19)), engine)
    again = sound_of(piece, engine).mix.samples
    # FluidSynth may add voices in another order: a unit of the last of 16 bits.
    np.testing.assert_allclose(first, again, atol=1 / 32_768)


@pytest.mark.parametrize("engine", ENGINES)
def test_more_parts_than_midi_has_channels(engine: str) -> None:
    piece = score(*(part([48 + i], 48 if i % 2 else 73, start=0.1 * i) for i in range(20)))
    done = sound_of(piece, engine, replace(DRY, stems=True))
    assert len(done.stems) == 20
    for index, stem in enumerate(done.stems):
        assert onset_seconds(stem.mono) == pytest.approx(0.1 * index, abs=0.25)
        assert np.abs(stem.samples[:, : int(0.1 * index * RATE_HZ)]).max(initial=0.0) < 1e-3


def test_thousands_of_tempo_changes() -> None:
    beats = np.arange(3_000) / 300
    tempo = TempoMap(beats=beats, bpm=np.linspace(60, 240, 3_000))
    piece = Score(tracks=(part([69], 73, start=10.0),), tempo=tempo)
    expected = float(tempo.seconds(np.array(10.0)))
    assert onset_seconds(sound_of(piece).mix.mono) == pytest.approx(expected, abs=0.03)


def test_a_pitch_struck_again_ends_the_note_before() -> None:
    notes = Notes(
        start_beats=np.array([0.0, 0.0, 1.0]),
        duration_beats=np.array([1.0, 4.0, 1.0]),
        pitch=np.array([60, 60, 60]),
        velocity=np.array([50, 90, 70]),
    )
    line = performed_part(Track(notes=notes, program=0, is_drum=False), score().tempo)
    np.testing.assert_allclose(line.start_seconds, [0.0, 1.0])
    np.testing.assert_allclose(line.duration_seconds, [1.0, 1.0])
    assert line.velocity.tolist() == [90, 70]


def test_an_endless_note_is_truncated_and_reported() -> None:
    piece = score(part([60], 16, step=600.0), part([72], 73))
    done = sound_of(piece, mixer=replace(DRY, rate_hz=8_000))
    assert done.remarks == (f"1 note is cut after {MAX_NOTE_SECONDS:g} seconds",)
    assert done.mix.seconds < MAX_NOTE_SECONDS + 5


def test_missing_presets_are_substituted_and_reported(tmp_path: Path) -> None:
    sounds = [Sound(number=0), Sound(number=42), Sound(number=44)]
    font = write_soundfont(tmp_path / "few.sf2", sounds)
    piece = score(
        part([69], 41, name="Bratsche"), part([69], 73), part([69], 42), part([36], 0, is_drum=True)
    )
    done = render_score(piece, RenderSettings(soundfont=font, engine="own", mixer=DRY))
    assert done.remarks == (
        "few.sf2 has no program 41 (viola), so part 1 (Bratsche) plays 42 (cello)",
        "few.sf2 has no program 73 (flute), so part 2 (flute) plays 0 (piano)",
        "few.sf2 has no drum kit, so part 4 (drums) is silent",
    )
    with pytest.raises(MelismaError, match=r"nothing of this score sounds with .*few\.sf2"):
        render_score(
            score(part([36], 0, is_drum=True)), RenderSettings(soundfont=font, engine="own")
        )


def test_presets_fall_back_in_their_order() -> None:
    presets = {(0, 0), (0, 41), (0, 46), (8, 5), (128, 0), (128, 16)}
    assert choose_preset(presets, 46, False) == (0, 46)
    assert choose_preset(presets, 42, False) == (0, 41)
    assert choose_preset(presets, 73, False) == (0, 0)
    assert choose_preset(presets, 16, True) == (128, 16)
    assert choose_preset(presets, 25, True) == (128, 0)
    assert choose_preset({(8, 5)}, 60, False) == (8, 5)
    assert choose_preset({(8, 5)}, 0, True) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_pitches_out_of_range_are_moved_by_octaves_and_reported(
    engine: str, tmp_path: Path
) -> None:
    font = write_soundfont(tmp_path / "narrow.sf2", [Sound(number=43, low=60, high=75)])
    settings = RenderSettings(soundfont=font, engine=engine, mixer=DRY)
    done = render_score(score(part([93, 69], 43)), settings)
    assert done.remarks == (
        "narrow.sf2 does not reach 1 note of part 1 (contrabass), which sounds octaves away",
    )
    first = done.mix.mono[int(0.1 * RATE_HZ) : int(0.9 * RATE_HZ)]
    assert loudest_hz(first) == pytest.approx(TONE_HZ * 2 ** (-4 / 1200), abs=0.5)


@pytest.mark.parametrize("engine", ENGINES)
def test_pitches_of_a_known_tone(engine: str, tmp_path: Path) -> None:
    font = write_soundfont(tmp_path / "full.sf2", full_bank())
    settings = RenderSettings(soundfont=font, engine=engine, mixer=DRY)
    for pitch in (45, 69, 81, 100):
        sound = render_score(score(part([pitch], 5)), settings).mix.mono
        middle = sound[int(0.1 * RATE_HZ) : int(0.9 * RATE_HZ)]
        assert loudest_hz(middle) == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=2e-3)


def test_a_soundfont_that_fluidsynth_cannot_read_is_played_by_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def __init__(self, path: Path, rate_hz: int) -> None:
            raise MelismaError(f"FluidSynth cannot read {path.name} at {rate_hz} Hz: try another")

    monkeypatch.setattr(rendering, "FluidSynthesizer", Broken)
    monkeypatch.setattr(rendering, "has_fluidsynth", lambda: True)
    done = sound_of(score(part([69], 73)), engine=None)
    assert done.engine == "Melisma's own player"
    (remark,) = done.remarks
    assert remark.startswith("FluidSynth cannot read")
    assert remark.endswith("so Melisma's own player plays")
    with pytest.raises(MelismaError, match="cannot read"):
        sound_of(score(part([69], 73)), engine="fluidsynth")


def test_without_fluidsynth_our_own_player_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "has_fluidsynth", lambda: False)
    done = sound_of(score(part([69], 73)), engine=None)
    assert (done.engine, done.remarks) == ("Melisma's own player", ())


def test_a_closed_hi_hat_ends_an_open_one() -> None:
    assert FONT is not None
    player = NumpySynthesizer(read_soundfont(FONT), RATE_HZ)
    tempo = score().tempo
    hats = [part([46, 42], 0, is_drum=True, step=0.15, length=0.1)]
    hats += [
        part([pitch], 0, is_drum=True, start=at, length=0.1)
        for pitch, at in ((46, 0.0), (42, 0.15))
    ]
    both, opened, closed = (
        player.play(performed_part(track, tempo), (128, 0), RATE_HZ)[0].astype(np.float64)
        for track in hats
    )
    left = both - closed  # what remains audible of the open one
    before, after = int(0.15 * RATE_HZ), int(0.165 * RATE_HZ)
    np.testing.assert_allclose(left[:before], opened[:before], atol=1e-5)
    assert np.abs(opened[after:]).max() > 1e-3
    assert np.abs(left[after:]).max() < 1e-5


def test_limits_are_reported() -> None:
    with pytest.raises(MelismaError, match="holds no note"):
        render_score(score())
    with pytest.raises(MelismaError, match="lasts 83 minutes, and at most 60"):
        render_score(score(part([60], 0, start=5_000.0)))
    with pytest.raises(MelismaError, match="300 parts, and at most 256"):
        render_score(score(*[part([60], 0)] * (MAX_PARTS + 44)))
    with pytest.raises(MelismaError, match='no room "cave": known are dry, studio, hall'):
        MixerSettings(room="cave")
    with pytest.raises(MelismaError, match="8000 and 192000 Hz"):
        MixerSettings(rate_hz=1)
    with pytest.raises(MelismaError, match="0 to 30 seconds"):
        MixerSettings(tail_seconds=-1.0)
    with pytest.raises(MelismaError, match="-60 and 0 LUFS"):
        MixerSettings(target_lufs=3.0)
    with pytest.raises(MelismaError, match='no engine "organ"'):
        RenderSettings(engine="organ")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_program_and_pitch_sounds_in_time(engine: str) -> None:
    """No preset at any pitch keeps a player busy for ever, and none is silent."""
    pitches = [0, 12, 24, 36, 60, 84, 96, 108, 127]
    for program in range(128):
        started = time.monotonic()
        mix = sound_of(score(part(pitches, program, step=0.2)), engine).mix
        assert time.monotonic() - started < 20
        assert np.abs(mix.samples).max() > 0.05


@pytest.mark.slow
def test_half_a_minute_of_eight_parts_takes_a_moment() -> None:
    rng = np.random.default_rng(0)
    tracks = [
        part(rng.integers(50, 80, 240).tolist(), program, step=0.25)
        for program in (0, 24, 40, 48, 56, 65, 73)
    ]
    drums = part(rng.choice([36, 38, 42], 240).tolist(), 0, step=0.25, is_drum=True)
    piece = score(*tracks, drums, bpm=120)
    started = time.process_time()
    sound_of(piece, None, MixerSettings(room="studio"))
    assert time.process_time() - started < 6  # about 1 on one core; slow machines are slow
