"""Training the stages of the token model, from shards to weights that the composer reads."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from melisma.files import Row, ShardWriter
from melisma.files.checkpoint import read_checkpoint
from melisma.files.legacy_names import TOKENIZERS_KEY
from melisma.generation.loading import read_stage
from melisma.joint.attributes import BLOCKS, ROW_WIDTH
from melisma.lm import ConditioningSettings, TokenModelSettings
from melisma.lm.conditioning import ATTRIBUTE_SIZES, FAMILY_COUNT, DropSettings
from melisma.tokenizers import predicted_attributes, window_starts
from melisma.train.lm import (
    STAGES,
    Codes,
    StageTask,
    StageTraining,
    TokenCorpus,
    read_corpus,
    stage_settings,
    train_stage,
)
from melisma.train.loop import LoopSettings, Run, generator_of
from melisma.values.attributes import CONDITION_ATTRIBUTES
from melisma.values.errors import MelismaError

CLIPS, FRAMES, VOCABULARY = 6, 24, 12
FINGERPRINTS = {"codec": "c0", "semantic": "s0", "joint": "j0"}


def write_shards(folder: Path, tokenizers: dict[str, str] | None = None) -> torch.Tensor:
    """Rows as the corpus writes them; a clip's tokens count up from its number, so they can be
    learned. Returns the style codes."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, rows_per_shard=4) as writer:
        for clip in range(CLIPS):
            up = (np.arange(FRAMES)[None] + clip + 3 * np.arange(4)[:, None]) % VOCABULARY
            rhythm = rng.random((FRAMES, 2)).astype(np.float16)
            rhythm[:5, 1] = np.nan
            arrays = {
                "acoustic": up.astype(np.uint16),
                "semantic": ((up[:2] * 5) % VOCABULARY).astype(np.uint16),
                "style": rng.integers(0, 8, (3, 2)).astype(np.uint8),
                "attributes": np.array([[size for _, size in ATTRIBUTE_SIZES]] * 3, np.uint8),
                "families": rng.integers(0, 2, (3, FAMILY_COUNT)).astype(np.uint8),
                "rhythm": rhythm,
                "melody": rng.integers(0, 13, FRAMES).astype(np.uint8),
            }
            facts = {} if tokenizers is None else {TOKENIZERS_KEY: tokenizers}
            writer.write(Row(key=f"clip-{clip}", arrays=arrays, facts=facts))
    return torch.randn(2, 8, 128, generator=torch.Generator().manual_seed(0))


def test_tokens_of_other_tokenizers_are_refused(tmp_path: Path) -> None:
    codes = write_shards(tmp_path, {"codec": "c0", "joint": "j0"})
    assert len(read_corpus(tmp_path, codes, FINGERPRINTS)) == CLIPS
    with pytest.raises(
        MelismaError, match="holds tokens of the joint j0, but the joint here is j1"
    ):
        read_corpus(tmp_path, codes, FINGERPRINTS | {"joint": "j1"})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TokenCorpus:
    folder = tmp_path_factory.mktemp("tokens")
    codes = write_shards(folder)
    return read_corpus(folder, codes, FINGERPRINTS)


def training(stage: str, updates: int = 2, **changes: object) -> StageTraining:
    source = ConditioningSettings(
        source_levels=0 if stage == "semantic" else 2, source_vocabulary=VOCABULARY
    )
    shape = {
        "semantic": {"levels": 2},
        "coarse": {"levels": 2},
        "fine": {"levels": 4, "first_sampled_level": 2, "causal": False, "pattern": "parallel"},
    }[stage]
    model = TokenModelSettings(
        vocabulary=VOCABULARY, width=16, layers=1, heads=2, window_frames=8, conditions=source,
        **shape,
    )  # fmt: skip
    loop = LoopSettings(
        updates=updates, warmup_updates=2, learning_rate=2e-2, log_updates=1, sample_updates=1_000,
        checkpoint_updates=1_000, average_decay=0.5,
    )  # fmt: skip
    settings = StageTraining(stage=stage, model=model, loop=loop, batch=4, crop_frames=16)
    return dataclasses.replace(settings, **changes)  # pyright: ignore[reportArgumentType]


def test_shards_become_a_corpus(corpus: TokenCorpus) -> None:
    assert len(corpus) == CLIPS
    assert corpus.acoustic.shape == (CLIPS, 4, FRAMES)
    assert corpus.style.shape == (CLIPS, 3, 2, 128)
    torch.testing.assert_close(
        corpus.style.float().norm(dim=-1), torch.ones(CLIPS, 3, 2), atol=1e-2, rtol=0
    )
    part = corpus.part(torch.tensor([4, 1]))
    assert torch.equal(part.semantic, corpus.semantic[[4, 1]])
    assert part.fingerprints == FINGERPRINTS


def test_styles_are_sums_of_their_first_levels(tmp_path: Path) -> None:
    codes = write_shards(tmp_path)
    corpus = read_corpus(tmp_path, codes, FINGERPRINTS)
    first = F.normalize(codes[0], dim=-1)
    found = corpus.style[:, :, 0].reshape(-1, 128).float()
    assert float((found @ first.T).amax(dim=1).min()) > 0.999
    sums = F.normalize((codes[0][:, None] + codes[1][None]).flatten(0, 1), dim=-1)
    found = corpus.style[:, :, 1].reshape(-1, 128).float()
    assert float((found @ sums.T).amax(dim=1).min()) > 0.999


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").write_text("")
    with pytest.raises(MelismaError, match="holds no tokens"):
        read_corpus(tmp_path, torch.zeros(2, 8, 128), FINGERPRINTS)
    with pytest.raises(FileNotFoundError):
        read_corpus(tmp_path / "none", torch.zeros(2, 8, 128), FINGERPRINTS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_weights_that_the_composer_reads(
    stage: str, corpus: TokenCorpus, tmp_path: Path
) -> None:
    train_stage(training(stage), corpus, corpus, tmp_path)
    path = tmp_path / "weights.safetensors"
    model = read_stage(path, FINGERPRINTS)
    assert model.settings == training(stage).model
    with pytest.raises(MelismaError, match=r"tokens of the codec c0, but .* is c1"):
        read_stage(path, FINGERPRINTS | {"codec": "c1"})
    again = tmp_path / "again"
    train_stage(training(stage), corpus, corpus, again, model.state_dict())
    assert (again / "weights.safetensors").is_file()


def test_what_repeats_is_learned(corpus: TokenCorpus, tmp_path: Path) -> None:
    task = StageTask(training("semantic", updates=40, dropout=0.0), corpus, corpus)
    run = Run(task, task.settings.loop, tmp_path)
    nats = [run.update()["nats"] for _ in range(40)]
    assert nats[0] == pytest.approx(math.log(VOCABULARY), abs=0.3)
    assert nats[-1] < 0.6 * nats[0]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_begins_from_the_codes_of_its_tokens(
    stage: str, corpus: TokenCorpus, tmp_path: Path
) -> None:
    codes = Codes(acoustic=torch.randn(4, VOCABULARY, 6), semantic=torch.randn(2, VOCABULARY, 5))
    settings = training(stage, updates=1)
    for name, given in (("random", None), ("codes", codes), ("again", codes)):
        train_stage(settings, corpus, corpus, tmp_path / name, codes=given)
    weights = {
        name: read_checkpoint(tmp_path / name / "weights.safetensors").tensors
        for name in ("random", "codes", "again")
    }
    assert torch.equal(weights["codes"]["tables.0.weight"], weights["again"]["tables.0.weight"])
    assert not torch.allclose(
        weights["codes"]["tables.0.weight"], weights["random"]["tables.0.weight"], atol=0.05
    )
    # Weights to continue from come before codes.
    train_stage(settings, corpus, corpus, tmp_path / "on", weights["random"], codes)
    on = read_checkpoint(tmp_path / "on" / "weights.safetensors").tensors
    assert torch.allclose(on["tables.0.weight"], weights["random"]["tables.0.weight"], atol=0.05)


def test_short_crops_of_their_own_follow_and_are_taken_up_again(
    corpus: TokenCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(
        training("semantic", updates=2),
        short_crop_updates=3,
        short_crop_frames=6,
        short_crop_rate=1e-2,
    )
    train_stage(settings, corpus, corpus, tmp_path)
    said = capsys.readouterr().out
    assert said.index("semantic_lm 2/2") < said.index("semantic_lm 3/3")
    final = read_checkpoint(tmp_path / "weights.safetensors")
    opening = read_checkpoint(tmp_path / "short_crops" / "weights.safetensors")
    first = read_checkpoint(tmp_path / "state.safetensors").tensors
    for name, tensor in final.tensors.items():
        assert torch.equal(tensor, opening.tensors[name])
    assert any(not torch.equal(t, first[f"average/{n}"]) for n, t in final.tensors.items())
    # Again: nothing is left to do, and the same comes out.
    train_stage(settings, corpus, corpus, tmp_path)
    again = read_checkpoint(tmp_path / "weights.safetensors").tensors
    assert all(torch.equal(tensor, final.tensors[name]) for name, tensor in again.items())


def test_crops_of_tokens_and_conditions_belong_together(corpus: TokenCorpus) -> None:
    task = StageTask(training("coarse", source_damage=0.0), corpus, corpus)
    grid, conditions = task.batch(corpus, generator_of(0, 0), 8, None, task.settings.crop_frames)
    assert grid.shape == (8, 2, 16)
    assert conditions.source is not None
    assert torch.equal(conditions.source, grid * 5 % VOCABULARY)
    assert conditions.rhythm is not None
    present = conditions.rhythm.present
    assert torch.equal(present[..., 0], present[..., 1])
    assert not bool(present.all())
    assert conditions.attributes is not None
    assert conditions.attributes.values.shape == (8, len(ATTRIBUTE_SIZES))


def test_only_training_drops_and_damages(corpus: TokenCorpus) -> None:
    everything = DropSettings(everything=1.0, rhythm=1.0, melody=1.0)
    task = StageTask(training("coarse", source_damage=1.0, drop=everything), corpus, corpus)
    grid, conditions = task.batch(
        corpus, generator_of(0, 0), 8, task.settings.drop, task.settings.crop_frames
    )
    for slot in conditions.slots().values():
        assert not bool(slot.present.any())
    assert conditions.source is not None
    assert float((conditions.source == grid * 5 % VOCABULARY).float().mean()) < 0.3
    _, held = task.batch(corpus, generator_of(0, 0), 8, None, task.settings.crop_frames)
    assert held.source is not None
    assert held.style is not None
    assert bool(held.style.present.all())


def test_judging_is_the_same_every_time(corpus: TokenCorpus) -> None:
    task = StageTask(training("fine"), corpus, corpus)
    task.model.eval()
    first = task.judge(task.model)
    torch.rand(3)
    assert task.judge(task.model) == first
    assert set(first) == {"nats", "nats_without_words"}


def test_stages_have_shapes_and_names() -> None:
    for stage in STAGES:
        settings = stage_settings(stage, width=64)
        assert settings.width == 64
        assert (settings.conditions.source_levels > 0) == (stage != "semantic")
    assert stage_settings("fine").first_sampled_level == stage_settings("coarse").levels
    with pytest.raises(MelismaError, match='no stage "finer": known are semantic'):
        stage_settings("finer")
    with pytest.raises(MelismaError, match='no stage "finer"'):
        StageTask(dataclasses.replace(training("fine"), stage="finer"), None, None)  # pyright: ignore[reportArgumentType]


def test_conditions_are_in_the_order_of_the_tables() -> None:
    assert tuple(name for name, _ in ATTRIBUTE_SIZES) == CONDITION_ATTRIBUTES
    row = np.zeros(ROW_WIDTH, np.float32)
    unsure = predicted_attributes(row)
    assert unsure.tolist() == [size for _, size in ATTRIBUTE_SIZES]
    row[BLOCKS["lead"].start + 3] = 0.9
    row[BLOCKS["tempo"].start + np.array([20, 21])] = 0.2  # no bin alone is sure
    row[BLOCKS["style"].start + 1] = 0.3
    predicted = dict(zip(CONDITION_ATTRIBUTES, predicted_attributes(row).tolist(), strict=True))
    assert (predicted["lead"], predicted["tempo"]) == (3, 20)
    assert predicted["style"] == dict(ATTRIBUTE_SIZES)["style"]


def test_windows_of_ten_seconds_overlap_by_half() -> None:
    second = 24_000
    assert window_starts(2 * second) == window_starts(10 * second) == [0]
    assert window_starts(20 * second) == [0, 5 * second, 10 * second]
    assert window_starts(14 * second) == [0]
