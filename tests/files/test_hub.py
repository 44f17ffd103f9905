"""Names of published checkpoints find their folder: the cache first, then the hub, whose place a
package takes here that never meets a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from melisma.files.hub import FETCHED, PUBLISHED, HubCard, hub_card, published_folder
from melisma.files.transformers_checkpoint import conversion_command
from melisma.values.errors import MelismaError

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write(folder: Path) -> Path:
    """The files of a whole checkpoint; what is in them does not matter here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}", "utf-8")
    return folder


def write_shards(folder: Path) -> Path:
    """The same with weights in two files."""
    (write(folder) / "model.safetensors").unlink()
    for name in SHARDS:
        (folder / name).touch()
    index = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


WRITERS = pytest.mark.parametrize("writer", [write, write_shards])


class NetworkError(Exception):
    """Stands for what the package's network library raises by itself."""


class FakeHub:
    """The cache and the hub: name -> folder, and what is answered to a request."""

    def __init__(self) -> None:
        self.cache: dict[str, Path] = {}
        self.online: dict[str, Path] = {}
        self.requests: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.info: Any = None
        errors = ModuleType("huggingface_hub.errors")
        http = type("HfHubHTTPError", (OSError,), {})
        missing = type("RepositoryNotFoundError", (http,), {})
        self.kinds: dict[str, Any] = {
            "HfHubHTTPError": http,
            "RepositoryNotFoundError": missing,
            "GatedRepoError": type("GatedRepoError", (missing,), {}),
            "RevisionNotFoundError": type("RevisionNotFoundError", (http,), {}),
            # As in versions of the package before 1.0, where it is one of HTTP's too.
            "LocalEntryNotFoundError": type("LocalEntryNotFoundError", (http,), {}),
            "HFValidationError": type("HFValidationError", (ValueError,), {}),
        }
        vars(errors).update(self.kinds)
        module = ModuleType("huggingface_hub")
        module.__spec__ = ModuleSpec("huggingface_hub", None)
        vars(module).update(snapshot_download=self.snapshot_download, HfApi=lambda: self)
        self.modules = {"huggingface_hub": module, "huggingface_hub.errors": errors}

    def snapshot_download(self, repository: str, **requests: Any) -> str:
        if requests.get("local_files_only"):
            if repository not in self.cache:
                raise self.kinds["LocalEntryNotFoundError"]("not in the cache")
            return str(self.cache[repository])
        self.requests.append(requests | {"repository": repository})
        if self.error is not None:
            raise self.error
        return str(self.online[repository])

    def model_info(self, repository: str, **requests: Any) -> Any:
        self.requests.append(requests | {"repository": repository})
        if self.error is not None:
            raise self.error
        return self.info


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    for name, module in fake.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return fake


def test_a_folder_is_taken_as_it_is(hub: FakeHub, tmp_path: Path) -> None:
    assert published_folder(str(tmp_path)) == tmp_path
    assert hub.requests == []


@WRITERS
def test_the_cache_comes_first(
    writer: Callable[[Path], Path], hub: FakeHub, tmp_path: Path
) -> None:
    hub.cache["owner/name"] = writer(tmp_path)
    assert published_folder("owner/name") == tmp_path
    assert published_folder("owner/name", offline=True) == tmp_path
    assert hub.requests == []


@pytest.mark.parametrize(
    "missing", ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors"]
)
def test_half_a_checkpoint_in_the_cache_is_completed(
    missing: str, hub: FakeHub, tmp_path: Path
) -> None:
    hub.cache["owner/name"] = write_shards(tmp_path / "half")
    (tmp_path / "half" / missing).unlink()
    hub.online["owner/name"] = write_shards(tmp_path / "whole")
    assert published_folder("owner/name") == tmp_path / "whole"
    with pytest.raises(MelismaError, match="not whole in the cache"):
        published_folder("owner/name", offline=True)


def test_the_package_itself_finds_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other programs leave it: links to blobs, and no list of what the hub has."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    blobs, snapshot = write_shards(repository / "blobs"), repository / "snapshots" / ("ab" * 20)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("ab" * 20, "utf-8")
    assert published_folder("owner/name", offline=True) == snapshot
    assert hub_card("owner/name", offline=True).cached
    for absent in ("owner/other", "owner/name@v2"):
        assert not hub_card(absent, offline=True).cached
        with pytest.raises(MelismaError, match="not whole in the cache"):
            published_folder(absent, offline=True)
    (snapshot / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(MelismaError, match="not whole in the cache"):
        published_folder("owner/name", offline=True)


def test_only_what_is_needed_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    hub.online["owner/name"] = write(tmp_path)
    assert published_folder("owner/name@refs/pr/18") == tmp_path
    (requests,) = hub.requests
    assert requests["repository"] == "owner/name"
    assert requests["revision"] == "refs/pr/18"

    def fetched(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in requests["allow_patterns"])

    for name in (
        "config.json", "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json",
        "model.safetensors.index.json", "generation_config.json", "spiece.model",
    ):  # fmt: skip
        assert fetched(name), name
    for name in (
        "pytorch_model.bin", "state_dict.bin", "modeling.py", "model.fp32.safetensors",
        "model-00001-of-00003.fp32.safetensors", "model.safetensors.index.fp32.json",
    ):  # fmt: skip
        assert not fetched(name), name


@pytest.mark.parametrize("value", ["1", "on", "True", "yes"])
def test_offline_by_the_environment(
    value: str, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.online["owner/name"] = write(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(MelismaError, match=r"HF_HUB_OFFLINE.*`hf download owner/name`"):
        published_folder("owner/name")
    with pytest.raises(MelismaError, match=r"`hf download owner/name --revision v2`"):
        published_folder("owner/name@v2")
    assert hub.requests == []
    assert published_folder("owner/name", offline=False) == tmp_path
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert published_folder("owner/name") == tmp_path


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "/absent/folder", "owner/", "a b/c", ""])
def test_what_is_neither_folder_nor_name(
    name: str, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MelismaError, match="there is no folder"):
        published_folder(name)
    (tmp_path / "file").touch()
    with pytest.raises(MelismaError, match="is a file"):
        published_folder(str(tmp_path / "file"))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GatedRepoError", "accepted its terms"),
        ("RepositoryNotFoundError", "or it is private"),
        ("RevisionNotFoundError", "has no revision v2"),
        ("HFValidationError", "is no name on the hub"),
        ("HfHubHTTPError", r"the hub refused owner/name@v2 \(503 first line\)"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses(kind: str, said: str, hub: FakeHub) -> None:
    hub.error = hub.kinds[kind]("503 first line\nsecond line")
    with pytest.raises(MelismaError, match=said):
        published_folder("owner/name@v2")


@pytest.mark.parametrize(
    "error", [ConnectionError("no route"), TimeoutError(), NetworkError("tls")]
)
def test_no_network(error: Exception, hub: FakeHub) -> None:
    hub.error = error
    with pytest.raises(MelismaError, match="the hub cannot be reached"):
        published_folder("owner/name")


def test_a_full_disk_is_said_to_be_one(hub: FakeHub) -> None:
    hub.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        published_folder("owner/name")


def test_pickled_weights_on_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    (write(tmp_path) / "model.safetensors").unlink()
    for name in ("owner/name", "facebook/musicgen-large"):
        hub.online[name] = tmp_path
        with pytest.raises(MelismaError, match="has only pickled weights on the hub") as refused:
            published_folder(name)
        assert conversion_command(name) in str(refused.value)
        elsewhere = "facebook/musicgen-large@refs/pr/18" in str(refused.value)
        assert elsewhere == (name != "owner/name")


def test_what_the_hub_lacks(hub: FakeHub, tmp_path: Path) -> None:
    hub.online["owner/shards"] = write_shards(tmp_path / "shards")
    (tmp_path / "shards" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MelismaError, match="lacks model-00002-of-00002"):
        published_folder("owner/shards")
    hub.online["owner/config"] = write(tmp_path / "config")
    (tmp_path / "config" / "config.json").unlink()
    with pytest.raises(MelismaError, match=r"holds no config\.json on the hub"):
        published_folder("owner/config")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MelismaError, match=r"pip install 'melisma\[hub\]'.*works without it"):
        published_folder("owner/name")
    assert published_folder(str(tmp_path)) == tmp_path
    assert hub_card("facebook/musicgen-small").bytes == 591_087_174 * 4
    with pytest.raises(MelismaError, match=r"melisma\[hub\]"):
        hub_card("owner/name")


def info(**sizes: int | None) -> SimpleNamespace:
    """What the hub tells of a model: files and their sizes."""
    names = {name.replace("__", "."): size for name, size in sizes.items()}
    return SimpleNamespace(
        tags=["musicgen", "license:cc-by-nc-4.0"],
        siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in names.items()],
    )


def test_a_card_comes_from_the_hub(hub: FakeHub) -> None:
    hub.info = info(model__safetensors=900, config__json=50, pytorch_model__bin=900, spiece=7)
    card = HubCard(licence="CC BY-NC 4.0", bytes=950, parameters=None, cached=False)
    assert hub_card("owner/name") == card
    (requests,) = hub.requests
    assert requests["files_metadata"]
    assert requests["timeout"] > 0
    hub.info = info(pytorch_model__bin=900, config__json=50)
    hub.info.tags = ["license:mit"]
    card = HubCard(licence="mit", bytes=None, parameters=None, cached=False)
    assert hub_card("owner/name") == card
    hub.info = SimpleNamespace(tags=None, siblings=None)
    assert hub_card("owner/name").licence is None


def test_a_card_without_a_network(hub: FakeHub, tmp_path: Path) -> None:
    hub.error = ConnectionError("no route")
    known = PUBLISHED["facebook/musicgen-melody"]
    card = hub_card("facebook/musicgen-melody")
    assert card.licence == known.licence == "CC BY-NC 4.0"
    assert (card.bytes, card.parameters) == (known.bytes, known.parameters)
    assert not card.cached
    unknown = HubCard(licence=None, bytes=None, parameters=None, cached=False)
    assert hub_card("owner/name") == unknown
    hub.requests.clear()
    hub.cache["owner/name"] = write(tmp_path)
    assert hub_card("owner/name", offline=True).cached
    assert hub.requests == []
    with pytest.raises(MelismaError, match="is a file or folder here"):
        hub_card(str(tmp_path))


def test_what_is_known_of_each_musicgen() -> None:
    assert len(PUBLISHED) == 10
    for name, known in PUBLISHED.items():
        assert name.startswith("facebook/musicgen-")
        assert known.licence == "CC BY-NC 4.0"
        width_bytes = 2 if "stereo" in name and "melody" not in name else 4
        assert known.bytes == width_bytes * known.parameters
    assert "config.json" in FETCHED
