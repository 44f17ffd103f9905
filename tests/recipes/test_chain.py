"""The whole chain at toy size: from scores to clips, tokenizers, tokens, stages, and music."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import groove, quartet, song, soundfont, write_corpus

from melisma.codec import AcousticCodec
from melisma.data.audio_shards import read_audio_shards, write_audio_shards
from melisma.data.clips import ClipRenderer, ClipSettings
from melisma.data.sources.pieces import read_sources
from melisma.data.token_shards import encode_clips, write_token_shards
from melisma.evaluate.models.judge import Judge
from melisma.evaluate.references.audio import FILE_NAME as REFERENCE_NAME
from melisma.evaluate.references.audio import read_reference
from melisma.evaluate.references.score import FILE_NAME as SCORE_REFERENCE_NAME
from melisma.evaluate.references.score import read_score_reference
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.files.legacy_names import TOKENIZERS_KEY
from melisma.files.shards import ShardReader
from melisma.generation.loading import load
from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding, MusicTowerSettings
from melisma.recipes import run_recipe, sizes
from melisma.recipes.chain import COPIED_PARTS, TOKEN_TENSORS, RunRequest, ship
from melisma.recipes.judges import measure_score_reference_of
from melisma.recipes.names import present_key, present_recipe
from melisma.recipes.settings import changed
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values.errors import MelismaError

FEW = {
    f"{part}.loop.{name}": str(value)
    for part in ("codec", "semantic", "text", "joint", "semantic_lm", "coarse_lm", "fine_lm")
    for name, value in {"updates": 3, "warmup_updates": 1, "sample_updates": 1_000}.items()
} | {"codec.start_crops": "64", "joint.wordings": "2", "size": "toy"}
"""Three updates of each part."""


def clip_renderer(folder: Path, seconds: float, split: str = "train") -> ClipRenderer:
    sources = read_sources(folder / "corpora")
    settings = ClipSettings(
        seed=5, seconds=seconds, variety="narrow", kinds={"real": 0.7, "groove": 0.3}
    )
    splits = {source.identity: split for source in sources}
    return ClipRenderer(sources, [soundfont()], settings, splits)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, and everything trained on them."""
    folder = tmp_path_factory.mktemp("chain")
    pieces = {"a.mid": song(), **{f"q{i}.mid": quartet(i) for i in range(5)}}
    write_corpus(folder / "corpora", "songs", pieces)
    write_corpus(folder / "corpora", "groove", {"g.mid": groove()})
    write_audio_shards(folder / "clips", clip_renderer(folder, 10.0), 12 / 360)
    run_recipe(
        "all", data=folder / "clips", output=folder / "run", resume=False, changes=dict(FEW),
        device="cpu",
    )  # fmt: skip
    return folder


def test_a_setting_of_no_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match=r'no setting "codce\.batch"'):
        run_recipe("codec", data=tmp_path, output=tmp_path / "run", changes={"codce.batch": "3"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "captions", "said"),
    [
        ("coarse_lm", "exact", "for the recipe single alone"),
        ("single", "wrong", 'no kind of captions "wrong": known are exact, assigned, shuffled'),
    ],
)
def test_captions_that_do_not_fit_are_refused(
    tmp_path: Path, recipe: str, captions: str, said: str
) -> None:
    with pytest.raises(MelismaError, match=said):
        run_recipe(recipe, data=tmp_path, output=tmp_path / "run", changes={"captions": captions})
    assert not (tmp_path / "run").exists()


def test_a_single_stage_needs_tokenizers_to_start_from(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"data": tmp_path, "output": tmp_path / "run"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no codec\.safetensors in .*start from a model"):
        run_recipe("single", changes={"start": str(tmp_path / "empty")}, **arguments)


def test_a_run_takes_its_own_part_else_that_of_its_start(tmp_path: Path) -> None:
    request = RunRequest(
        data=tmp_path, output=tmp_path / "run", size="toy", changes={}, device="cpu", words=None,
        start=None,
    )  # fmt: skip
    assert request.model_with("joint") == model_folder("default")
    started = replace(request, start=tmp_path / "other")
    assert started.model_with("joint") == tmp_path / "other"
    request.model.mkdir(parents=True)
    request.weights("joint").write_bytes(b"")
    assert started.model_with("joint") == request.model
    assert started.model_with("codec") == tmp_path / "other"


def test_the_split_of_the_score_model_is_remembered(tmp_path: Path) -> None:
    request = RunRequest(
        data=tmp_path, output=tmp_path, size="toy", changes={}, device="cpu", words=None, start=None
    )
    assert request.splits == tmp_path / "fingerprints" / "splits.json"
    request.part("score").mkdir()
    assert request.splits == tmp_path / "score" / "splits.json"


def test_former_names_of_recipes_folders_and_settings_are_accepted(tmp_path: Path) -> None:
    request = RunRequest(
        data=tmp_path, output=tmp_path, size="toy", changes={}, device="cpu", words=None, start=None
    )
    (tmp_path / "polish").mkdir()
    assert request.part("finetune_codec") == tmp_path / "polish"
    (tmp_path / "finetune_codec").mkdir()
    assert request.part("finetune_codec") == tmp_path / "finetune_codec"
    assert present_recipe("polish_text") == "finetune_text"
    assert present_key("prints.fewest_pieces") == "fingerprints.fewest_pieces"
    assert present_key("size") == "size"
    with pytest.raises(MelismaError, match="no recipe"):
        run_recipe("polished", data=tmp_path, output=tmp_path / "run")
    changes = {
        "semantic_lm.opening_updates": "7",
        "semantic_lm.opening_drop.style": "0.5",
        "semantic_lm.loop.peak_rate": "0.25",
    }
    settings = changed(sizes.stage("semantic", "toy"), changes, "semantic_lm")
    assert settings.short_crop_updates == 7
    assert settings.short_crop_drop.style == 0.5
    assert settings.loop.learning_rate == 0.25
    assert changed(sizes.judge("toy")[1], {"judge.rate": "0.5"}, "judge").learning_rate == 0.5
    text = sizes.finetune_text("toy", MusicTowerSettings())
    assert changed(text, {"finetune_text.lessons": "9"}, "finetune_text").replay_batch == 9


def test_without_a_model_there_is_nothing_to_ship(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train one first"):
        run_recipe(
            "ship", data=tmp_path, output=tmp_path / "run", resume=False, changes={}, device="cpu"
        )
    assert not (tmp_path / "run" / "shipped").exists()


def test_all_parts_are_shipped_small_and_what_decides_tokens_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shipped = {path.stem for path in model_folder("default").glob("*.safetensors")}
    assert shipped <= {*TOKEN_TENSORS, *COPIED_PARTS}
    matrix = torch.linspace(-1, 1, 64 * 64).reshape(64, 64)
    for name in (*TOKEN_TENSORS, *COPIED_PARTS):
        tensors = {"encoder.weight": matrix, "music.weight": matrix, "other.weight": matrix}
        path = folder / f"{name}.safetensors"
        write_checkpoint(path, Checkpoint(kind=name, settings={}, tensors=tensors))
    ship(folder, tmp_path / "shipped")
    assert {path.stem for path in (tmp_path / "shipped").iterdir()} == {
        *TOKEN_TENSORS, *COPIED_PARTS,
    }  # fmt: skip
    for name, exact in {"codec": "encoder", "joint": "music", "semantic_lm": None}.items():
        tensors = read_checkpoint(tmp_path / "shipped" / f"{name}.safetensors").tensors
        for part in ("encoder", "music", "other"):
            is_exact = torch.equal(tensors[f"{part}.weight"], matrix.half().float())
            assert is_exact == (part == exact)
    for name in COPIED_PARTS:
        file = f"{name}.safetensors"
        assert (tmp_path / "shipped" / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.slow
def test_the_chain_ends_in_music(chain: Path) -> None:
    composer = load(str(chain / "run" / "model"))
    sound = composer.generate("a slow hymn for organ", duration_seconds=1.0, seed=3)
    assert sound.seconds == pytest.approx(1.0, abs=0.05)
    assert np.isfinite(sound.samples).all()


@pytest.mark.slow
def test_a_single_stage_on_captions_generates_alone(chain: Path, tmp_path: Path) -> None:
    model, before = tmp_path / "model", chain / "run" / "model"
    few = {"size": "toy", "captions": "shuffled", "single.loop.updates": "3", "single.batch": "2"}
    arguments: dict[str, Any] = {"data": chain / "clips", "resume": False, "device": "cpu"}
    with pytest.raises(MelismaError, match="would be written over: give another folder"):
        run_recipe("single", output=chain / "run", changes=dict(few), **arguments)
    few["start"] = str(before)
    run_recipe("single", output=tmp_path, changes=dict(few), **arguments)
    with pytest.raises(MelismaError, match=r"single holds a training already: add --resume"):
        run_recipe("single", output=tmp_path, changes=dict(few), **arguments)
    arguments["resume"] = True
    with pytest.raises(MelismaError, match="the captions shuffled, but the captions here is exact"):
        run_recipe("single", output=tmp_path, changes={**few, "captions": "exact"}, **arguments)
    with pytest.raises(MelismaError, match="holds a single stage conditioned on captions"):
        run_recipe("semantic_lm", output=tmp_path, changes={"size": "toy"}, **arguments)
    learned = read_checkpoint(model / "coarse_lm.safetensors")
    words = JointEmbedding.read(model / "joint.safetensors").text_fingerprint
    assert learned.fingerprints["words"] == words
    assert not learned.tensors["conditioner.style.weight"].any()
    run_recipe("ship", output=tmp_path, changes={}, **arguments)
    for folder in (model, tmp_path / "shipped"):
        composer = load(str(folder))
        sounds = [
            composer.generate(words, duration_seconds=1.0, seed=3)
            for words in ("a slow hymn for organ", "loud drums")
        ]
        assert sounds[0].seconds == pytest.approx(1.0, abs=0.05)
        assert not np.array_equal(sounds[0].samples, sounds[1].samples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "part"), [("finetune_codec", "codec"), ("polish_text", "joint")]
)
def test_fine_tuning_leaves_the_tokens_unchanged(chain: Path, recipe: str, part: str) -> None:
    reader = AcousticCodec if part == "codec" else JointEmbedding
    path = chain / "run" / "model" / f"{part}.safetensors"
    print_before, before = reader.read(path).fingerprint, read_checkpoint(path).tensors
    changes = {**FEW, "polish.loop.updates": "3", "finetune_text.loop.updates": "2"}
    run_recipe(
        recipe, data=chain / "clips", output=chain / "run", resume=True, changes=changes,
        device="cpu",
    )  # fmt: skip
    after = read_checkpoint(path).tensors
    assert reader.read(path).fingerprint == print_before
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder" if part == "codec" else "text"}


@pytest.mark.slow
def test_tokens_are_the_same_for_any_number_of_workers(chain: Path, tmp_path: Path) -> None:
    paths = TokenizerPaths.of(chain / "run" / "model")
    for workers in (1, 2):
        write_token_shards(
            tmp_path / str(workers), clip_renderer(chain, 20.0), paths, 5 / 180, workers
        )
    one, two = ({row.key: row for row in ShardReader(tmp_path / name)} for name in ("1", "2"))
    assert set(one) == set(two) == {f"5-{i:07d}" for i in range(5)}
    for key, row in one.items():
        assert row.facts == two[key].facts
        assert set(row.arrays) == set(two[key].arrays)
        # Rendering may differ by the last of 16 bits, and so may a token of a hundred.
        for name in ("acoustic", "semantic"):
            assert (row.arrays[name] == two[key].arrays[name]).mean() > 0.95
        assert np.array_equal(row.arrays["rhythm"], two[key].arrays["rhythm"], equal_nan=True)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "1").iterdir()}
    write_token_shards(tmp_path / "1", clip_renderer(chain, 20.0), paths, 5 / 180)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "1").glob("*.tar")} == {
        path: stamp for path, stamp in files.items() if path.suffix == ".tar"
    }


@pytest.mark.slow
def test_audio_shards_become_token_rows(chain: Path, tmp_path: Path) -> None:
    clips = read_audio_shards(chain / "clips")
    frozen = AudioTokenizers.read(TokenizerPaths.of(chain / "run" / "model"))
    encode_clips(tmp_path, clips, frozen)
    rows = list(ShardReader(tmp_path))
    assert [row.key for row in rows] == [f"{TOKENIZERS_KEY}-{i:07d}" for i in range(len(clips))]
    sound = torch.from_numpy(clips.sound[0][:4].astype(np.float32) / 32768)
    assert np.array_equal(rows[0].arrays["acoustic"], frozen.codec.encode_sound(sound)[0].numpy())
    assert rows[0].arrays["rhythm"].shape == (250, 2)
    assert rows[3].facts["facts"] == clips.rows[3]["facts"]


@pytest.mark.slow
def test_a_judge_and_what_it_measures_come_from_clips(chain: Path) -> None:
    data, run = chain / "clips", chain / "run"
    for name in ("judge", "reference"):
        write_audio_shards(data / name, clip_renderer(chain, 10.0), 8 / 360)
        run_recipe(name, data=data, output=run, resume=True, changes={"size": "toy"}, device="cpu")
    judge = Judge.read(run / "model")
    reference = read_reference(run / "model" / REFERENCE_NAME)
    assert len(reference) == 8
    assert set(reference.fingerprints) == {"verdicts", "codec", "music", "judge", "signal"}
    assert reference.fingerprints["verdicts"] == judge.fingerprint
    assert reference.name.startswith("8 held-out clips of")
    assert reference.name.endswith(str(read_audio_shards(data / "reference").rows[0]["soundfont"]))
    assert {"codec_log_mel", "codec_si_sdr", "codec_onsets"} <= set(reference.coded[0].values)
    assert reference.raw[0].windows["music"].shape == (3, 128)
    assert len(set(reference.groups)) > 1


@pytest.mark.slow
def test_scores_have_a_reference_of_their_own(chain: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    held = dict.fromkeys((s.identity for s in read_sources(chain / "corpora")), "held")
    splits.write_text(json.dumps(held), encoding="utf-8")
    measure_score_reference_of(chain / "corpora", tmp_path, tmp_path, splits)
    reference = read_score_reference(tmp_path / SCORE_REFERENCE_NAME)
    assert reference.pairs
    assert all(measured.shared is None for _, measured in reference.pairs)
