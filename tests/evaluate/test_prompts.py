"""Lists of prompts are read, and files are paired with their prompts."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melisma.evaluate.prompts import (
    MIDI_ENDINGS,
    PromptRow,
    find_pieces,
    pair_prompts,
    read_musiccaps,
    read_prompts,
    tagged_prompt,
)
from melisma.files import Provenance, write_audio
from melisma.symbolic.midi import write_midi
from melisma.symbolic.tags import write_midi_tags
from melisma.values import Notes, Prompt, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError
from melisma.values.prompt import clean_text

MUSICCAPS = """ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,\
is_balanced_subset,is_audioset_eval
abc,30,40,/m/1,"['slow', 'sad']","A slow,
sad piece.",4,True,False
def,10,20,/m/1,"['broken","Loud drums.",4,False,True
-gh,0,10,/m/1,[],"Nothing special.",4,False,False
"""


def provenance(prompt: str) -> Provenance:
    return Provenance(prompt=prompt, seed=1, model="m", fingerprint="f", licence="CC0-1.0")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def sound(path: Path, prompt: str | None = None) -> None:
    waveform = Waveform(samples=np.zeros((1, 800), dtype=np.float32), rate_hz=8_000)
    write_audio(path, waveform, None if prompt is None else provenance(prompt))


def paired(folder: Path, prompts_file: Path | None = None) -> tuple[dict[str, str | None], str]:
    pieces, problems = pair_prompts(folder, prompts_file)
    return {piece.name: piece.words for piece in pieces}, "; ".join(problems)


def test_text_csv_and_json_lines(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("\ufeff# a comment\n\none\n  two  \n", encoding="utf-8")
    assert [row.words for row in read_prompts(text)] == ["one", "two"]
    table = tmp_path / "a.csv"
    table.write_text('file,prompt,tempo_bpm\nx.wav,"one, two",90\ny.wav,three\n')
    assert read_prompts(table) == [
        PromptRow(words="one, two", file="x.wav", facts={"tempo_bpm": "90"}),
        PromptRow(words="three", file="y.wav"),
    ]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"prompt": "one\u2028", "tempo_bpm": 90.0, "families": ["harp"]}\n\n')
    assert read_prompts(lines) == [
        PromptRow(words="one", facts={"tempo_bpm": 90.0, "families": ["harp"]})
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "# only a comment\n", "holds no prompt"),
        ("a.csv", "title,text\nx,y\n", "no column named prompt or caption"),
        ("a.jsonl", '{"prompt": "x"}\n{"words": "y"}\n', "line 2"),
        ("a.jsonl", "[1]\n", "has no prompt"),
        ("a.jsonl", "{\n", "not JSON"),
    ],
)
def test_malformed_lists_are_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(MelismaError, match=message):
        read_prompts(path)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MelismaError, match="UTF-8"):
        read_prompts(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_prompts(tmp_path / "b.txt")


def test_musiccaps_and_its_subsets(tmp_path: Path) -> None:
    path = tmp_path / "musiccaps.csv"
    path.write_text(MUSICCAPS)
    balanced = read_musiccaps(path)
    assert balanced == [
        PromptRow(
            words="A slow, sad piece.",
            file="abc",
            facts={"aspects": ("slow", "sad"), "start_seconds": 30.0},
        )
    ]
    assert [row.file for row in read_musiccaps(path, "eval")] == ["def"]
    assert [row.facts["aspects"] for row in read_musiccaps(path, "all")] == [
        ("slow", "sad"),
        (),
        (),
    ]
    with pytest.raises(MelismaError, match="give one of balanced, eval, all"):
        read_musiccaps(path, "half")
    path.write_text("caption\nx\n")
    with pytest.raises(MelismaError, match="is not MusicCaps"):
        read_musiccaps(path)


@pytest.mark.parametrize(
    "cell",
    ["[" * 5_000 + "]" * 5_000, "[" + "-" * 20_000 + "1]", "{[]: 1}", "['a'", "5", "[1, None]",
     "0x" + "f" * 9_000, "[0x" + "f" * 9_000 + "]", "[" * 300],
    ids=lambda cell: cell[:12],
)  # fmt: skip
def test_a_malformed_list_of_aspects_is_an_empty_one(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    header = MUSICCAPS.splitlines()[0]
    row = f'abc,30,40,/m/1,"{cell}",A slow piece.,4,True,False'
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    [found] = read_musiccaps(path, "all")
    assert found.facts["aspects"] == ()


def test_names_in_the_list_decide(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "sub/a.flac", "left.mp3", "notes.pdf", ".hidden/c.wav")
    (tmp_path / "prompts.csv").write_text(
        "file,prompt\nsub/a.flac,first\nb,second\nb.wav,again\nz.wav,third\n"
    )
    found, problems = paired(tmp_path)
    assert found == {"b.wav": "second", "left.mp3": None, "sub/a.flac": "first"}
    assert 'names "b.wav" twice' in problems
    assert '2 prompts have no file: "again", "third"' in problems
    assert "1 file has no prompt" in problems
    assert '"left.mp3"' in problems


def test_a_name_that_two_files_have_is_not_guessed(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.mid", "b.wav")
    (tmp_path / "prompts.jsonl").write_text(
        '{"file": "a", "prompt": "one"}\n{"file": "b", "prompt": "two"}\n'
    )
    found, problems = paired(tmp_path)
    assert found == {"a.mid": None, "a.wav": None, "b.wav": "two"}
    assert 'several files could be meant by "a"' in problems


def test_numbers_before_the_names_survive_a_missing_file(tmp_path: Path) -> None:
    touch(tmp_path, "01-x.wav", "03-y.wav", "10-z.wav")
    prompts = tmp_path / "list.txt"
    prompts.write_text("\n".join(f"prompt {n}" for n in range(1, 11)))
    found, problems = paired(tmp_path, prompts)
    assert found == {"01-x.wav": "prompt 1", "03-y.wav": "prompt 3", "10-z.wav": "prompt 10"}
    assert problems.startswith("7 prompts have no file")
    assert "and 2 more" in problems


def test_order_decides_where_nothing_else_does(tmp_path: Path) -> None:
    touch(tmp_path, "take2.wav", "take10.wav", "take1.wav")
    prompts = tmp_path / "list.txt"
    prompts.write_text("one\ntwo\nten\n")
    assert paired(tmp_path, prompts) == (
        {"take1.wav": "one", "take2.wav": "two", "take10.wav": "ten"},
        "",
    )
    prompts.write_text("one\ntwo\n")
    found, problems = paired(tmp_path, prompts)
    assert found["take10.wav"] is None
    assert "check the pairs" in problems


def test_tags_of_sound_and_midi_tell_the_prompt(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", "a slow waltz")
    sound(tmp_path / "b.ogg", "rain")
    sound(tmp_path / "c.flac")
    notes = Notes(
        pitch=np.array([60]),
        velocity=np.array([80]),
        start_beats=np.array([0.0]),
        duration_beats=np.array([1.0]),
    )
    score = Score(
        tracks=(Track(name="", program=0, is_drum=False, notes=notes),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 120.0)),
    )
    tagged = write_midi_tags(write_midi(score), provenance("a  hymn").fields())
    (tmp_path / "d.mid").write_bytes(tagged)
    (tmp_path / "e.wav").write_bytes(b"")
    found, problems = paired(tmp_path)
    assert found == {
        "a.wav": "a slow waltz",
        "b.ogg": "rain",
        "c.flac": None,
        "d.mid": "a hymn",
        "e.wav": None,
    }
    assert "e.wav is empty" in problems
    assert tagged_prompt(tmp_path / "d.mid") == "a hymn"
    assert [path.name for path in find_pieces(tmp_path, MIDI_ENDINGS)] == ["d.mid"]


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        pair_prompts(tmp_path / "none")
    with pytest.raises(MelismaError, match="holds no piece"):
        pair_prompts(tmp_path)
    touch(tmp_path, "a.wav")
    prompts = tmp_path / "list.csv"
    prompts.write_text("file,prompt\nb.wav,x\n")
    with pytest.raises(MelismaError, match="belongs to a file"):
        pair_prompts(tmp_path, prompts)


def test_lines_end_with_lf_cr_lf_or_cr_and_with_nothing_else(tmp_path: Path) -> None:
    pasted = "a waltz\u2028with\u2029a\x85calm\vand\fslow\x1cend"
    for end in ("\n", "\r\n", "\r"):
        for name, line in (("p.txt", "{}"), ("p.jsonl", '{{"prompt": "{}"}}'), ("p.csv", "{}")):
            rows = [pasted if name == "p.txt" else "a waltz\u2028again", "a jig"]
            head = ["prompt"] if name == "p.csv" else []
            text = end.join([*head, *(line.format(row) for row in rows), ""])
            (tmp_path / name).write_bytes(text.encode())
            assert len(read_prompts(tmp_path / name)) == 2, (name, end)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=5))
def test_any_text_becomes_text_that_can_be_written(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"x{text}"}) for text in texts))
    rows = read_prompts(path)
    assert len(rows) == len(texts)
    for row in rows:
        assert row.words.encode("utf-8").decode("utf-8") == row.words
        Prompt(words=row.words)
    assert [row.words for row in rows] == [" ".join(clean_text(row.words).split()) for row in rows]


@given(st.binary(max_size=40))
def test_any_bytes_of_a_terminal_become_a_prompt(data: bytes) -> None:
    prompt = Prompt(words="x" + data.decode("utf-8", "surrogateescape"))
    assert prompt.words.encode("utf-8")
    assert clean_text(prompt.words) == prompt.words
    if data.isascii() and data.decode().isprintable():
        assert prompt.words == "x" + data.decode()
