"""Clips are valid audio, a function of their number, and can be read back from disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from small_corpus import groove, quartet, score, song, soundfont, write_corpus
from small_corpus import line as part_line

from melisma.data.audio_shards import read_audio_shards, write_audio_shards
from melisma.data.clips import ClipRenderer, ClipSettings
from melisma.data.render.acoustics import PEAK, ROOMS, Finish, finish_sound, synthetic_room
from melisma.data.render.expressive_performance import PerformanceSettings, perform
from melisma.data.render.synthesis import Renderer, RenderVariety
from melisma.data.sources.pieces import read_sources
from melisma.symbolic.soundfont.fluidsynth import has_fluidsynth
from melisma.values.errors import MelismaError

needs_fluidsynth = pytest.mark.skipif(not has_fluidsynth(), reason="needs FluidSynth")
ENGINES = (pytest.param("fluidsynth", marks=needs_fluidsynth), "own")


@pytest.fixture(scope="module", params=ENGINES)
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return Renderer([soundfont()], RenderVariety(variety="narrow"), request.param)


@pytest.fixture(scope="module")
def clip_renderer(tmp_path_factory: pytest.TempPathFactory) -> ClipRenderer:
    folder = tmp_path_factory.mktemp("corpora")
    write_corpus(folder, "songs", {"a.mid": song(), "b.mid": quartet(1)})
    write_corpus(folder, "groove", {"g.mid": groove()})
    sources = read_sources(folder)
    splits = {source.identity: "train" for source in sources}
    settings = ClipSettings(seconds=2.0, kinds={"real": 0.6, "groove": 0.4})
    return ClipRenderer(sources, [soundfont()], settings, splits)


def test_a_note_sounds_where_and_as_it_is_written(renderer: Renderer) -> None:
    plain = PerformanceSettings(
        orchestration=None, lead_track=0, transpose=False, humanize=False, rubato=False
    )
    piece = score(part_line([69] * 4, 73, step=2.0), bpm=60)
    performance = perform(piece, np.random.default_rng(0), plain)
    sound = renderer.render(performance, 2.0, 1.5, np.random.default_rng(0))
    assert sound.shape == (36_000,)
    assert sound.dtype == np.float32
    peak_hz = np.argmax(np.abs(np.fft.rfft(sound * np.hanning(36_000)))) / 1.5
    assert peak_hz / round(peak_hz / 440.0) == pytest.approx(440.0, abs=5)  # or a harmonic
    before = renderer.render(performance, -1.0, 1.0, np.random.default_rng(0))
    assert np.abs(before[:-200]).max() < 1e-4


def test_rendering_does_not_depend_on_previous_calls(renderer: Renderer) -> None:
    performance = perform(quartet(2), np.random.default_rng(1))
    first = renderer.render(performance, 4.0, 1.0, np.random.default_rng(5))
    renderer.render(perform(groove(), np.random.default_rng(2)), 0.0, 1.0, np.random.default_rng(6))
    again = renderer.render(performance, 4.0, 1.0, np.random.default_rng(5))
    # Voices may be added in another order: differences of one unit of int16.
    np.testing.assert_allclose(first, again, atol=1 / 32_768)


@needs_fluidsynth
def test_both_synthesizers_play_the_same_clip() -> None:
    performance = perform(quartet(2), np.random.default_rng(1))
    settings = RenderVariety(variety="wide")
    bands = []
    for engine in ("fluidsynth", "own"):
        own = Renderer([soundfont()], settings, engine)
        sound = own.render(performance, 2.5, 2.0, np.random.default_rng(5))
        power = np.abs(np.fft.rfft(sound.reshape(-1, 2_400))) ** 2
        edges = np.geomspace(2, 1_200, 17).astype(int)
        bands.append([power[:, a:b].sum(axis=1) for a, b in itertools.pairwise(edges)])
    one, other = 10 * np.log10(np.array(bands) + 1e-4)
    assert np.abs(one - other).mean() < 3.0
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97


def test_soundfonts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match="no soundfont given"):
        Renderer([])
    with pytest.raises(MelismaError, match="there is no soundfont"):
        Renderer([tmp_path / "absent.sf2"])
    with pytest.raises(MelismaError, match='"wide" or "narrow"'):
        RenderVariety(variety="unknown")


def test_rooms_decay_and_levels_hold() -> None:
    for index in (0, ROOMS // 2, ROOMS - 1):
        response = synthetic_room(index)
        quarter = len(response) // 4
        assert np.sum(response[:quarter] ** 2) > 20 * np.sum(response[-quarter:] ** 2)
    rng = np.random.default_rng(0)
    dry = rng.standard_normal(24_000) * np.repeat(rng.uniform(0, 1, 24), 1_000)
    finish = Finish(room=3, wet=0.3, low_shelf_db=3.0, high_shelf_db=-3.0, tilt_db=0.5,
                    noise_db=-50.0, level_db=-20.0)  # fmt: skip
    sound = finish_sound(dry, 4_000, finish, {}, rng)
    assert len(sound) == 20_000
    assert np.abs(sound).max() <= PEAK
    assert -24 < 20 * np.log10(np.sqrt(np.mean(sound**2))) < -17


def test_a_clip_is_a_function_of_its_number(clip_renderer: ClipRenderer) -> None:
    first, _, again = clip_renderer.clip(3), clip_renderer.clip(4), clip_renderer.clip(3)
    assert np.abs(first.sound.astype(int) - again.sound).max() <= 1
    assert first.row == again.row
    assert first.captions == again.captions
    assert first.sound.shape == (48_000,)
    assert len(first.labels) == 50
    assert first.row["licence"] == "CC0 1.0"


def test_unknown_kinds_are_refused(clip_renderer: ClipRenderer) -> None:
    with pytest.raises(MelismaError, match="no kind of clip"):
        ClipRenderer([], [soundfont()], ClipSettings(kinds={"dreamt": 1.0}), {})
    with pytest.raises(MelismaError, match="split"):
        ClipRenderer([], [soundfont()], ClipSettings(), {}).clip(0)
    assert clip_renderer.settings.seconds == 2.0


def test_a_corpus_is_read_back_and_resumed(tmp_path: Path, clip_renderer: ClipRenderer) -> None:
    write_audio_shards(tmp_path, clip_renderer, hours=4 * 2 / 3600, clips_per_shard=2)
    corpus = read_audio_shards(tmp_path)
    assert len(corpus) == 4
    assert corpus.locate(3) == (1, 1)
    assert np.abs(corpus.sound[1][0].astype(int) - clip_renderer.clip(2).sound).max() <= 1
    assert corpus.labels[0]["pitch_class"].shape == (2, 50, 12)
    assert corpus.facts(0) == clip_renderer.clip(0).facts
    labels = clip_renderer.clip(2).labels
    has_onset = labels.onset.any(axis=1) | labels.drum.any(axis=1)
    assert has_onset.any()
    np.testing.assert_allclose(corpus.onsets_seconds(2), (np.flatnonzero(has_onset) + 0.5) / 25)
    modified = (tmp_path / "sound-00000.npy").stat().st_mtime_ns
    (tmp_path / "rows-00001.jsonl").unlink()
    write_audio_shards(tmp_path, clip_renderer, hours=4 * 2 / 3600, clips_per_shard=2)
    assert (tmp_path / "sound-00000.npy").stat().st_mtime_ns == modified
    assert len(read_audio_shards(tmp_path)) == 4
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(MelismaError, match="no finished shard"):
        read_audio_shards(tmp_path / "absent")
