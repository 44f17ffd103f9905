"""`melisma doctor`: what this machine has, what will fit and how fast it is, before a long run.

Every finding is a name, a sentence, and where something is wrong the remedy. The exit code is 1
where something is broken or the run that was asked about will not fit, else 0.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import textwrap
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import melisma
from melisma.cli import options
from melisma.cli.arguments import PRECISIONS, check_precision, real, whole

if TYPE_CHECKING:
    from melisma.engine.resources.memory import MemoryEstimate, Workload
    from melisma.generation.catalogue import ModelFacts
    from melisma.generation.forecast import Forecast

UNFIT = 1
"""Exit code where something is broken or will not fit."""
_LEAST_DISK_BYTES = 1_000_000_000
"""Free disk below which a person is warned (chosen: an hour of stereo as WAV)."""
_COLUMNS = 80
"""Width of the page."""
_EXTRAS = {
    "hub": ("huggingface_hub",),
    "train": ("tensorboard", "zstandard", "wordfreq"),
}
"""Extras and the packages that show that they are there."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    words: str
    remedy: str | None = None
    """What to do; None where all is well."""


def doctor(
    model: options.Model = "default",
    duration: options.Duration = 30.0,
    precision: options.Precision = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where pieces would be written.")
    ] = Path(),
    as_json: options.Json = False,
    threads: options.Threads = None,
) -> None:
    """Check this machine, and say what will fit and how fast it will be."""
    real("--duration", duration, 1, 600)
    whole("--threads", threads, 1, 1024)
    check_precision(precision)
    from melisma.engine.resources.memory import Workload
    from melisma.generation.catalogue import facts_of

    facts = facts_of(model)
    precision = precision or facts.usual_precision
    asked = Workload(seconds=duration, pieces=facts.usual_candidates)
    sections = {"machine": _machine(threads), "program": [*_program(), *_places(output)]}
    told, numbers = _model(facts, precision, asked, threads)
    sections[f"{facts.name} in {precision}, {duration:g} s"] = told
    faults = [one for part in sections.values() for one in part if one.remedy]
    if as_json:
        rows = {name: [asdict(one) for one in part] for name, part in sections.items()}
        document = {"version": melisma.__version__, "well": not faults, "model": numbers}
        print(json.dumps(document | {"findings": rows}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(sections, faults)))
    if faults:
        raise typer.Exit(UNFIT)


def _lines(sections: dict[str, list[Check]], faults: list[Check]) -> list[str]:
    """For a person: what was found, and in the last lines what to do."""
    width = max(len(one.name) for part in sections.values() for one in part)
    lines = []
    for name, part in sections.items():
        lines.append(name)
        for one in part:
            mark = "!" if one.remedy else " "
            lines += _wrapped(f"{mark} {one.name:<{width}}  ", one.words)
    if not faults:
        return [*lines, "all is well"]
    return lines + [line for one in faults for line in _wrapped(f"{one.name}: ", str(one.remedy))]


def _wrapped(start: str, words: str) -> list[str]:
    """Words after a start, in lines of a terminal; paths stay whole."""
    width = _COLUMNS - len(start)
    lines = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    first, *rest = lines or [""]
    return [start + first, *(" " * len(start) + line for line in rest)]


def _machine(threads: int | None) -> list[Check]:
    """Processor, memory, how fast it is read, GPU."""
    from melisma.engine.resources.hardware import memory, processor, read_bandwidth
    from melisma.engine.resources.memory import gigabytes

    found, room = processor(), memory()
    threads = threads or found.threads
    where = "of this container" if room.contained else "in all"
    told = "unknown: this system does not tell"
    if room.total_bytes is not None:
        told = f"{gigabytes(room.total_bytes)} {where}"
        if room.available_bytes is not None:
            told += f", {gigabytes(room.available_bytes)} free"
    speed = gigabytes(read_bandwidth(threads))
    known = ", ".join(found.instructions)
    return [
        Check(
            name="processor",
            words=f"{found.name}, {found.usable:g} of {found.cores} cores for this process",
        ),
        Check(
            name="instructions",
            words=known or "none that help: expect a tenth of the usual speed",
        ),
        *_arithmetic(),
        Check(name="memory", words=told),
        Check(name="reading", words=f"{speed}/s on {threads} thread{'s' * (threads > 1)}"),
        *_others(),
        _gpu(),
    ]


def _arithmetic() -> list[Check]:
    """What token models and other networks compute with, and why."""
    from melisma.nn.precision import compute_dtype
    from melisma.simd.instruction_set import ENVIRONMENT, candidates
    from melisma.simd.selection import selected

    isa, dtype = selected(), compute_dtype()
    why = "the best that this processor has"
    if os.environ.get(ENVIRONMENT):
        why = f"asked for by {ENVIRONMENT}"
    elif len(candidates()) > 1:
        others = [one.name for one in candidates() if one != isa]
        why = f"measured against {', '.join(others)}"
    return [
        Check(name="kernels", words=f"{isa.name}, {why}"),
        Check(name="networks", words=f"compute in {dtype.name}: {dtype.reason}"),
    ]


def _others() -> list[Check]:
    """What other programs take, where it is enough to spoil the figures."""
    from melisma.engine.resources.hardware import busy_programs

    busy = busy_programs()
    words = f"{busy or 0:.1f} programs were running in the last minute: alone it is faster"
    return [] if busy is None else [Check(name="busy", words=words)]


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        from melisma.engine.resources.memory import gigabytes

        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        said = f"{name}, {gigabytes(total)}, {gigabytes(free)} free: MusicGen draws on it"
        return Check(name="GPU", words=f"{said}; figures below are those of the processor")
    return Check(name="GPU", words="none that torch sees; none is needed")


def _program() -> list[Check]:
    """Python, packages, native code, notes, extras."""
    missing = [
        extra
        for extra, packages in _EXTRAS.items()
        if any(importlib.util.find_spec(package) is None for package in packages)
    ]
    extras = [f"{name} {'missing' if name in missing else 'installed'}" for name in _EXTRAS]
    hint = "".join(f"; pip install 'melisma[{name}]'" for name in missing)
    return [_python(), _packages(), _native(), *_notes(), Check(
        name="extras", words=", ".join(extras) + hint
    )]  # fmt: skip


def _python() -> Check:
    wanted = ", ".join(sorted(_tested_python().split(","), reverse=True))
    version = ".".join(map(str, sys.version_info[:3]))
    if within(version, wanted):
        return Check(name="Python", words=f"{version} (tested: {wanted})")
    return Check(
        name="Python",
        words=f"{version}, which was not tested",
        remedy=f"install Melisma in a Python {wanted}",
    )


def _tested_python() -> str:
    try:
        return str(metadata.metadata("melisma")["Requires-Python"])
    except metadata.PackageNotFoundError:
        return ">=3.11,<3.14"  # a checkout that was never installed; as pyproject.toml has it


def _packages() -> Check:
    """Versions of what the plain installation needs."""
    try:
        wanted = metadata.requires("melisma") or []
    except metadata.PackageNotFoundError:
        return Check(name="packages", words="not checked: Melisma runs from a checkout")
    shown, wrong = [], []
    for line in wanted:
        found = re.fullmatch(r"([\w.-]+)\s*\(?([^;)]*)\)?\s*(;.*)?", line)
        if found is None or "extra ==" in (found[3] or ""):
            continue
        name, bounds = found[1], found[2].strip()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if not within(version, bounds):
            wrong.append(f"{name} {version} is not {bounds}")
        elif name in ("torch", "numpy", "numba"):
            shown.append(f"{name} {version}")
    if wrong:
        return Check(
            name="packages",
            words="; ".join(wrong),
            remedy="install the tested versions, pip install --upgrade melisma",
        )
    return Check(name="packages", words=f"{', '.join(sorted(shown))}: all in the tested range")


def within(version: str, bounds: str) -> bool:
    """Whether a version lies in bounds like ">=2.6,<2.14,!=2.7.0"; a bound that is not understood
    holds.

    >>> within("2.13.0+cpu", ">=2.6,<2.14"), within("2.14.0", ">=2.6,<2.14")
    (True, False)
    """
    mine = _numbers(version)
    for bound in filter(None, bounds.replace(" ", "").split(",")):
        found = re.fullmatch(r"(>=|<=|==|!=|<|>)([\d.]+)", bound)
        if found is None:
            continue
        size = max(len(mine), len(_numbers(found[2])))
        one, other = (list(part) + [0] * (size - len(part)) for part in (mine, _numbers(found[2])))
        holds = {
            ">=": one >= other, "<=": one <= other, "==": one == other, "!=": one != other,
            "<": one < other, ">": one > other,
        }  # fmt: skip
        if not holds[found[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _native() -> Check:
    """Whether numba compiles and runs a step, and keeps what it compiled."""
    start = time.perf_counter()
    try:
        from melisma.engine.resources.micro_benchmark import random_matrix, run_once
        from melisma.simd.jit import cache_folder
        from melisma.simd.selection import selected

        run_once(random_matrix(64, 64, "int8"))
    except Exception as error:  # whatever numba or the system cannot do
        return Check(
            name="native code",
            words=f"does not run: {' '.join(str(error).split())[:200]}",
            remedy="install numba and llvmlite anew, pip install --force-reinstall numba",
        )
    seconds = time.perf_counter() - start
    kept = "not kept" if cache_folder(selected().name) is None else "kept"
    words = f"runs, first step after {seconds:.1f} s; what is compiled is {kept}"
    if kept == "not kept":
        words += ", but made anew each time: name a folder for it, NUMBA_CACHE_DIR"
    return Check(name="native code", words=words)


def _notes() -> list[Check]:
    """What scores sound with."""
    from melisma.symbolic.soundfont.discovery import find_soundfont
    from melisma.symbolic.soundfont.fluidsynth import has_fluidsynth

    synth = "found" if has_fluidsynth() else "missing: scores sound plainer, melodies are unharmed"
    try:
        bank = Check(name="soundfont", words=find_soundfont().path.name)
    except (OSError, ValueError) as error:
        bank = Check(name="soundfont", words="unusable", remedy=" ".join(str(error).split()))
    return [bank, Check(name="FluidSynth", words=synth)]


def _places(output: Path) -> list[Check]:
    """Room on disk, for pieces and for fetched models."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    return [_disk("output folder", output), _disk("hub cache", cache)]


def _disk(name: str, folder: Path) -> Check:
    from melisma.engine.resources.memory import gigabytes

    there = folder.resolve()
    while not there.is_dir():
        there = there.parent
    if name == "output folder" and there != folder.resolve():
        return Check(
            name=name, words=f"{folder} does not exist", remedy=f"create it: mkdir -p {folder}"
        )
    if not os.access(there, os.W_OK):
        return Check(
            name=name, words=f"{folder} cannot be written to", remedy="choose another folder"
        )
    free = shutil.disk_usage(there).free
    short = free < _LEAST_DISK_BYTES
    return Check(
        name=name,
        words=f"{gigabytes(free)} free in {folder.resolve()}",
        remedy=f"free some space on the disk of {folder.resolve()}" if short else None,
    )


def _model(
    facts: ModelFacts, precision: str, asked: Workload, threads: int | None
) -> tuple[list[Check], dict[str, object]]:
    """What the run that is asked about needs, and how long it takes; and the same as numbers."""
    from melisma.engine.resources.hardware import memory, processor
    from melisma.engine.resources.memory import estimate_memory, gigabytes
    from melisma.generation.forecast import forecast

    need, available = estimate_memory(facts.sizes, precision, asked), memory().available_bytes
    numbers: dict[str, object] = {
        "name": facts.name, "precision": precision, "seconds": asked.seconds,
        "licence": facts.licence, "memory_bytes": need.bytes, "memory_parts": dict(need.parts),
        "available_bytes": available,
    }  # fmt: skip
    licence = facts.licence + ("" if facts.commercial else ": no commercial use")
    found = [Check(name="licence", words=licence)]
    if facts.folder is None:
        size = gigabytes(facts.disk_bytes)
        found.append(Check(name="weights", words=f"not here: {size} are fetched at first"))
    room = _room(facts, precision, asked, need, available)
    found.append(room)
    if room.remedy is None and facts.sound:
        told = forecast(facts, precision, asked, threads or processor().threads)
        found += _speed(told, facts, asked)
        numbers["forecast"] = asdict(told)
    return found, numbers


def _room(
    facts: ModelFacts, precision: str, asked: Workload, need: MemoryEstimate, available: int | None
) -> Check:
    """Memory, the largest parts first."""
    from melisma.engine.resources.memory import estimate_memory, fits, gigabytes

    parts = sorted(need.parts.items(), key=lambda part: -part[1])
    listed = [f"{name} {gigabytes(size)}" for name, size in parts]
    free = "" if available is None else f" of {gigabytes(available)} free"
    text = f"{gigabytes(need.bytes)}{free}: {', '.join(listed)}"
    if fits(need.bytes, available) or available is None:
        return Check(name="needs", words=text)
    smaller = [
        name
        for name in PRECISIONS[PRECISIONS.index(precision) + 1 :]
        if fits(estimate_memory(facts.sizes, name, asked).bytes, available)
    ]
    advice = f"--precision {smaller[0]} would fit" if smaller else "take a smaller model"
    return Check(
        name="needs",
        words=text,
        remedy=f"{gigabytes(need.bytes)} do not fit in the {gigabytes(available)} that are free: "
        f"{advice}, or make it shorter, or end other programs",
    )


def _speed(told: Forecast, facts: ModelFacts, asked: Workload) -> list[Check]:
    """How long it takes."""
    found = []
    if facts.single and told.steps_a_second is not None and told.bytes_a_step is not None:
        (stage,) = facts.sizes.stages
        read = told.bytes_a_step / 1e6
        found.append(
            Check(
                name="steps",
                words=f"{told.steps_a_second:.0f} a second, {read:.0f} MB each: "
                f"{told.steps_a_second / stage.frame_rate_hz / stage.stride:.2f} times real time "
                f"(tried on {told.tried_layers} of {stage.layers} layers)",
            )
        )
    times = asked.seconds / told.whole_seconds
    return [
        *found,
        Check(name="loading", words=f"{told.load_seconds:.1f} s, and what a slow disk adds"),
        Check(name="first sound", words=f"{told.first_sound_seconds:.1f} s later with --stream"),
        Check(
            name="whole piece",
            words=f"{told.whole_seconds:.0f} s: {times:.2f} times real time",
        ),
    ]
