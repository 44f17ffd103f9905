"""Small valid files of every kind that is read from outside, as fuzzing mutates them.

Each function writes some below a folder and returns their paths.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

from melisma.values import Waveform

RATE_HZ = 24_000


def tune() -> Waveform:
    """Two seconds of a tune."""
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(np.where(time < 1, 220.0, 330.0)) / RATE_HZ
    samples = 0.2 * sum(np.sin(n * phase) / n**1.5 for n in range(1, 6))
    return Waveform(samples=np.asarray(samples, dtype=np.float32)[None], rate_hz=RATE_HZ)


def sound_files(place: Path) -> tuple[Path, ...]:
    """A tune in every format, with and without tags."""
    import soundfile

    from melisma.files import Provenance, write_audio

    place.mkdir(parents=True, exist_ok=True)
    provenance = Provenance(
        prompt="a tune", seed=3, model="m", fingerprint="0123456789ab", licence="none",
        settings='{"sampling": {"temperature": 1.0}}', version="0.6",
    )  # fmt: skip
    paths = []
    for ending in ("wav", "flac", "mp3", "ogg"):
        paths.append(place / f"tagged.{ending}")
        write_audio(paths[-1], tune(), provenance)
    for name, subtype in (("plain.wav", "PCM_16"), ("float.wav", "FLOAT"), ("plain.aiff", None)):
        paths.append(place / name)
        samples = np.stack([tune().samples[0]] * 2, axis=1)[:RATE_HZ]
        soundfile.write(paths[-1], samples, RATE_HZ, subtype=subtype)
    return tuple(paths)


def score_files(place: Path) -> tuple[Path, ...]:
    """MIDI files of types 0 and 1, with tags, pedals, sysex and several parts."""
    place.mkdir(parents=True, exist_ok=True)
    notes = b"".join(
        bytes([0, 0x90 | c, 60 + 2 * k, 80, 0x81, 0x70, 0x80 | c, 60 + 2 * k, 0])
        for k in range(6)
        for c in (0, 9)
    )
    sysex, pedal = b"\x00\xf0\x05\x7e\x7f\x09\x01\xf7", b"\x00\xb0\x40\x7f"
    meta = b"\x00\xff\x51\x03\x07\xa1\x20\x00\xff\x58\x04\x03\x02\x18\x08\x00\xff\x59\x02\x00\x00"
    text = b"\x00\xff\x03\x04tune\x00\xff\x02\x06(c) me\x00\xff\x05\x02la"
    end = b"\x00\xff\x2f\x00"

    def chunk(body: bytes) -> bytes:
        return b"MTrk" + len(body).to_bytes(4, "big") + body

    def header(kind: int, tracks: int) -> bytes:
        return b"MThd" + bytes([0, 0, 0, 6, 0, kind, 0, tracks, 1, 0xE0])

    first = header(0, 1) + chunk(meta + text + sysex + pedal + notes + end)
    voices = [bytes([0, 0xC0 | c, 10 * c]) + notes for c in range(3)]
    second = header(1, 4) + chunk(meta + end) + b"".join(chunk(text + v + end) for v in voices)
    paths = (place / "one.mid", place / "parts.mid")
    for path, data in zip(paths, (first, second), strict=True):
        path.write_bytes(data)
    return paths


def model_folder(place: Path) -> Path:
    """A whole small model of sound and scores, its stages as int8 and float32."""
    from small_model import write_model
    from small_score_model import write_score_model

    place.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        write_model(place)
        write_score_model(place, 60)
    return place


def index_files(place: Path) -> tuple[Path, Path]:
    """A clip index and melody fingerprints."""
    from melisma.analysis.similarity.clip_index import ClipIndex
    from melisma.analysis.similarity.melody_fingerprints import MelodyFingerprints
    from melisma.symbolic.midi import read_midi

    place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 2, 128)).astype(np.float32)
    clips = ClipIndex(["a", "b", "c"], rng.integers(0, 24, (3, 50)), vectors, {"codec": "0" * 12})
    clips.write(place / "clips.safetensors")
    pieces = [(path.stem, read_midi(path.read_bytes())) for path in score_files(place / "scores")]
    MelodyFingerprints.build(pieces).write(place / "melodies.safetensors")
    return place / "clips.safetensors", place / "melodies.safetensors"


def card_files(place: Path) -> tuple[Path, ...]:
    """Cards of evaluations, with plots and with embeddings."""
    from small_card import small_card

    from melisma.evaluate.report.card import write_card

    rng = np.random.default_rng(0)
    card = small_card(rng.random(16), rng.normal(size=16))
    plots = {
        "distance": {"kind": "frechet", "title": "d", "sizes": [4, 8, 16],
                     "distances": [3.0, 2.0, 1.5], "value": 1.0, "slope": 8.0},
        "share": {"kind": "shares", "title": "s", "section": "bias", "classes": ["a", "b"],
                  "outputs": [0.5, 0.5], "corpus": [0.4, 0.6], "low": [-0.1, -0.2],
                  "high": [0.2, 0.1]},
        "tempo": {"kind": "histogram", "title": "t", "edges": [0, 1, 2], "counts": [3, 4],
                  "reference": [1, 1], "unit": "bpm"},
    }  # fmt: skip
    windows = rng.normal(size=(16, 3, 8)).astype(np.float32)
    whole = dataclasses.replace(card, plots=plots, embeddings={"music": windows})
    paths = (place / "first" / "card.json", place / "second" / "card.json")
    for path, one in zip(paths, (whole, card), strict=True):
        write_card(path, one)
    return paths


def token_file(place: Path, model: Path) -> Path:
    """The tokens of a tune."""
    from melisma.files import write_tokens
    from melisma.generation.loading import load_codec

    place.mkdir(parents=True, exist_ok=True)
    write_tokens(place / "tune.mlt", load_codec(model).encode(tune()))
    return place / "tune.mlt"


def list_files(place: Path) -> tuple[Path, ...]:
    """Lists of prompts: lines, JSON, MusicCaps."""
    place.mkdir(parents=True, exist_ok=True)
    lines = place / "list.txt"
    lines.write_text("# a comment\na slow waltz\nfast drums at 120 bpm\n", "utf-8")
    rows = [{"prompt": "a waltz", "file": "000.wav"}, {"prompt": "a march", "seconds": 10}]
    table = place / "list.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    captions = place / "captions.csv"
    captions.write_text(
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,"
        "is_balanced_subset,is_audioset_eval\n"
        "-0Gj8-vB1q4,30,40,/m/0140xf,\"['low quality', 'slow']\",\"A slow, sad song\",4,True,True\n"
        "-0SdAVK79lg,30,40,/m/0140xf,\"['guitar']\",A guitar,0,False,True\n",
        "utf-8",
    )
    return lines, table, captions


def musicgen_folder(place: Path) -> Path | None:
    """A small MusicGen, and one that follows melodies; None where transformers, which writes them,
    is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from small_musicgen import written
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        written(place / "plain")
        written(place / "melody", melody=True)
    for folder in (place / "plain", place / "melody"):
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}', "utf-8")
    return place


def reference_files(place: Path) -> tuple[Path, Path, Path]:
    """Reference sets of sound and of scores, and figures of a benchmark."""
    import small_world

    from melisma.evaluate.metrics.figures import write_figures
    from melisma.evaluate.metrics.score_adherence import (
        RequestedScoreAttributes,
        measure_score,
    )
    from melisma.evaluate.references.audio import write_reference
    from melisma.evaluate.references.score import ScoreReference, write_score_reference
    from melisma.evaluate.report.card import read_card
    from melisma.symbolic.midi import read_midi

    place.mkdir(parents=True, exist_ok=True)
    paths = place / "reference.safetensors", place / "scores.safetensors", place / "figures.json"
    write_reference(paths[0], small_world.reference())
    pairs = []
    for path in score_files(place / "scores"):
        score = read_midi(path.read_bytes())
        asked = RequestedScoreAttributes(words="a tune", tempo_bpm=120.0, metre="3/4")
        pairs.append((asked, measure_score(score, asked, None, None)))
    write_score_reference(paths[1], ScoreReference(name="two", pairs=tuple(pairs)))
    card = read_card(card_files(place / "cards")[1])
    write_figures(paths[2], [row.figure for row in card.rows])
    return paths


def soundfont_file(place: Path) -> Path:
    """A soundfont of two presets."""
    from small_soundfont import Sound, write_soundfont

    place.mkdir(parents=True, exist_ok=True)
    return write_soundfont(place / "small.sf2", [Sound(), Sound(bank=128, low=35, high=50)])
