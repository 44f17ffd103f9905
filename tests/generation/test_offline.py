"""Offline: with every socket forbidden all works, and no name but one of the hub asks for one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_model import write_model

from melisma.files.hub import PUBLISHED
from melisma.generation.requests.facade import MelismaPipeline
from melisma.generation.resolve import resolve_model
from melisma.values.errors import MelismaError

FORBIDDEN = """
import os, socket, sys

def refused(*_, **__):
    raise SystemExit("a socket was used")

for name in ("connect", "connect_ex", "bind", "sendto", "__init__"):
    setattr(socket.socket, name, refused)
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
    setattr(socket, name, refused)
os.environ.pop("HF_HUB_OFFLINE", None)
"""
"""Any use of the network ends the program at once: no handler catches it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def run_without_network(program: str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FORBIDDEN + program],
        cwd=place, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_music_is_made_without_a_network(folder: Path, tmp_path: Path) -> None:
    program = f"""
import melisma
from melisma.cli.errors import run
from melisma.cli.program import program

pipeline = melisma.load({str(folder)!r})
pipeline.generate("a waltz", duration=1, best_of=1, receipt=True).save("a.wav", plot="a.png")
pipeline.decode(pipeline.encode("a.wav"))
melisma.load()
for line in (["models"], ["inspect", "a.wav", "--json"], ["encode", "a.wav", "b.mlt"],
             ["generate", "x", "--model", {str(folder)!r}, "--duration", "1", "-o", "c.wav"]):
    assert run(program, line) == 0, line
print("all is done")
"""
    done = run_without_network(program, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is done\n")


MISTYPED = [
    "runs/typo", "./runs/typo", "runs/typo@main", "owner/name", "~/no/such", "~nobody/model",
    "facebook/musicgen-smal", "facebook/musicgen-small/", "facebook//musicgen-small",
    "Facebook/musicgen-small", " facebook/musicgen-small", "defualt", "", "..x", "a/b/c",
    "https://huggingface.co/facebook/musicgen-small", "hub:", "hub:name", "hub:a/b/c", "hub:../x",
    "hub:~/x", "hub:/etc", "HUB:owner/name", "x" * 10_000, "a\0b/c", "a/\0", "\udcff/x", "*/*",
]  # fmt: skip


@pytest.mark.parametrize("name", MISTYPED, ids=lambda name: repr(name)[:30])
def test_no_other_name_is_one_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        pytest.fail("a socket was used")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    with pytest.raises(MelismaError):
        resolve_model(name)
    with pytest.raises(MelismaError):
        MelismaPipeline(name)


def test_names_of_the_hub() -> None:
    for name in PUBLISHED:
        for one in (name, f"{name}@refs/pr/1"):
            found = resolve_model(one)
            assert (found.source, found.name, found.folder) == ("hub", one, None)
    found = resolve_model("hub:owner/name@v1")
    assert (found.source, found.name, found.folder) == ("hub", "owner/name@v1", None)
    assert resolve_model("hub:facebook/musicgen-small") == resolve_model("facebook/musicgen-small")


def test_a_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "facebook" / "musicgen-small"
    place.parent.mkdir()
    place.write_text("a file")
    with pytest.raises(MelismaError, match="is a file: the name of a model is that of its folder"):
        resolve_model("facebook/musicgen-small")
    place.unlink()
    place.mkdir()
    assert resolve_model("facebook/musicgen-small").source == "folder"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("defualt", "did you mean default"),
        ("facebook/musicgen-smal", r"did you mean facebook/musicgen-small"),
        ("runs/frist", "did you mean runs/first"),
        ("owner/name", "asked for as hub:owner/name"),
        ("hub:name", "is no name on the hub: those are owner/name"),
    ],
)
def test_a_mistyped_name_is_answered_with_what_there_is(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MelismaError, match=said):
        resolve_model(name)
