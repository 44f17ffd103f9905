"""`melisma doctor`: checks of this machine, with memory and time estimates for a planned run.

Each check has a name, a finding and, if something is wrong, a remedy, or a warning where it works
but is slow. The exit code is 1 if something is broken or the planned run does not fit
into memory, else 0.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import textwrap
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import melisma
from melisma.cli import options
from melisma.cli.arguments import check_integer, check_precision, check_real
from melisma.cli.receipts import print_json
from melisma.values.model_ref import PRECISIONS

if TYPE_CHECKING:
    from melisma.engine.resources.memory import MemoryEstimate, Workload
    from melisma.generation.catalogue import ModelFacts
    from melisma.generation.forecast import Forecast

UNFIT = 1
"""Exit code if something is broken or does not fit."""
_LEAST_DISK_BYTES = 1_000_000_000
"""Free disk space below which there is a warning (chosen: an hour of stereo as WAV)."""
_LONG_SECONDS = 60.0
"""A run that takes longer gets a warning (chosen: a minute of waiting)."""
_COLUMNS = 80
"""Width of the text output."""
_EXTRAS = {"hub": ("huggingface_hub",), "train": ("tensorboard", "zstandard", "wordfreq")}
"""Optional dependencies -> the packages that show whether they are installed."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    words: str
    """The finding, in words."""
    remedy: str | None = None
    """What to do; None if nothing is wrong."""
    warning: str | None = None
    """What to know although nothing is wrong."""


def doctor(
    model: options.Model = "default",
    duration: options.ForecastDuration = 30.0,
    precision: options.Precision = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The folder that pieces will be written to.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Path(),
    as_json: options.Json = False,
    threads: options.Threads = None,
) -> None:
    """Check this machine and estimate memory and time of a run."""
    check_real("--duration", duration, 1, 600)
    check_integer("--threads", threads, 1, 1024)
    check_precision(precision)
    from melisma.engine.resources.memory import Workload
    from melisma.generation.catalogue import facts_of

    facts = facts_of(model)
    precision = precision or facts.usual_precision
    workload = Workload(seconds=duration, pieces=facts.usual_candidates)
    sections = {"machine": _machine(threads), "program": [*_program(), *_folders(output)]}
    checks, numbers = _model(facts, precision, workload, threads)
    sections[f"{facts.name} in {precision}, {duration:g} s"] = checks
    found = [one for part in sections.values() for one in part]
    faults = [one for one in found if one.remedy]
    warnings = [one for one in found if one.warning]
    if as_json:
        rows = {name: [asdict(one) for one in part] for name, part in sections.items()}
        document = {
            "version": melisma.__version__,
            "well": not faults,
            "warnings": [one.warning for one in warnings],
            "model": numbers,
        }
        print_json(document | {"findings": rows})
    else:
        print("\n".join(_lines(sections, faults, warnings)))
    if faults:
        raise typer.Exit(UNFIT)


def _lines(
    sections: dict[str, list[Check]], faults: list[Check], warnings: list[Check]
) -> list[str]:
    """The text output: the findings, and in the last lines the warnings and remedies."""
    width = max(len(one.name) for part in sections.values() for one in part)
    lines = []
    for name, part in sections.items():
        lines.append(name)
        for one in part:
            mark = "!" if one.remedy else "?" if one.warning else " "
            lines += _wrapped(f"{mark} {one.name:<{width}}  ", one.words)
    if not faults and not warnings:
        return [*lines, "everything is in order"]
    if not faults:
        lines.append("nothing is broken, but:")
    lines += [line for one in warnings for line in _wrapped(f"{one.name}: ", str(one.warning))]
    return lines + [line for one in faults for line in _wrapped(f"{one.name}: ", str(one.remedy))]


def _wrapped(start: str, words: str) -> list[str]:
    """Lines of at most `_COLUMNS` characters, indented by the start; paths are not broken."""
    width = _COLUMNS - len(start)
    lines = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    first, *rest = lines or [""]
    return [start + first, *(" " * len(start) + line for line in rest)]


def _machine(threads: int | None) -> list[Check]:
    """Processor, memory and its bandwidth, GPU."""
    from melisma.engine.resources.hardware import memory, processor, read_bandwidth
    from melisma.engine.resources.memory import gigabytes

    cpu, ram = processor(), memory()
    threads = threads or cpu.threads
    where = "of this container" if ram.contained else "in total"
    size = "unknown: this system does not report it"
    if ram.total_bytes is not None:
        size = f"{gigabytes(ram.total_bytes)} {where}"
        if ram.available_bytes is not None:
            size += f", {gigabytes(ram.available_bytes)} free"
    bandwidth = gigabytes(read_bandwidth(threads))
    instructions = ", ".join(cpu.instructions)
    return [
        Check(
            name="processor",
            words=f"{cpu.name}, {cpu.usable:g} of {cpu.cores} cores for this process",
        ),
        Check(
            name="instructions",
            words=instructions or "no vector instructions: expect a tenth of the usual speed",
        ),
        *_arithmetic(),
        Check(name="memory", words=size),
        Check(name="reading", words=f"{bandwidth}/s on {threads} thread{'s' * (threads > 1)}"),
        *_other_programs(),
        _gpu(),
    ]


def _arithmetic() -> list[Check]:
    """Instruction set of the native kernels and dtype of the networks, each with the reason."""
    from melisma.nn.precision import compute_dtype
    from melisma.simd.instruction_set import ENVIRONMENT, candidates
    from melisma.simd.selection import selected

    isa, dtype = selected(), compute_dtype()
    reason = "the best of this processor"
    if os.environ.get(ENVIRONMENT):
        reason = f"set by {ENVIRONMENT}"
    elif len(candidates()) > 1:
        others = [one.name for one in candidates() if one != isa]
        reason = f"faster than {', '.join(others)} when measured"
    return [
        Check(name="kernels", words=f"{isa.name}, {reason}"),
        Check(name="networks", words=f"compute in {dtype.name}: {dtype.reason}"),
    ]


def _other_programs() -> list[Check]:
    """Load by other programs, if it is enough to distort the measurements."""
    from melisma.engine.resources.hardware import busy_programs

    busy = busy_programs()
    words = f"other programs cause a load of {busy or 0:.1f}: without them it is faster"
    return [] if busy is None else [Check(name="busy", words=words)]


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        from melisma.engine.resources.memory import gigabytes

        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        size = f"{name}, {gigabytes(total)}, {gigabytes(free)} free"
        return Check(
            name="GPU", words=f"{size}: used by MusicGen; the estimates below are for the processor"
        )
    return Check(name="GPU", words="none available to torch; none is needed")


def _program() -> list[Check]:
    """Python, packages, native code, score rendering, optional dependencies."""
    missing = [
        extra
        for extra, packages in _EXTRAS.items()
        if any(importlib.util.find_spec(package) is None for package in packages)
    ]
    extras = [f"{name} {'missing' if name in missing else 'installed'}" for name in _EXTRAS]
    hint = "".join(f"; pip install 'melisma[{name}]'" for name in missing)
    return [_python(), _packages(), _native(), *_rendering(), Check(
        name="extras", words=", ".join(extras) + hint
    )]  # fmt: skip


def _python() -> Check:
    tested = ", ".join(sorted(_tested_python().split(","), reverse=True))
    version = ".".join(map(str, sys.version_info[:3]))
    if within(version, tested):
        return Check(name="Python", words=f"{version} (tested: {tested})")
    return Check(
        name="Python",
        words=f"{version}, which is not tested",
        remedy=f"install Melisma with Python {tested}",
    )


def _tested_python() -> str:
    try:
        return str(metadata.metadata("melisma")["Requires-Python"])
    except metadata.PackageNotFoundError:
        return ">=3.11,<3.14"  # a checkout without installation; same as in pyproject.toml


def _packages() -> Check:
    """Versions of the packages that the installation without extras needs."""
    from packaging.requirements import Requirement

    try:
        requirements = metadata.requires("melisma") or []
    except metadata.PackageNotFoundError:
        return Check(name="packages", words="not checked: Melisma runs from a checkout")
    shown, wrong = [], []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, bounds = requirement.name, str(requirement.specifier)
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
    """Whether a version lies in bounds like ">=2.6,<2.14,!=2.7.0" (PEP 440).

    Pre-releases count as their order says; a version that is not of PEP 440 lies in no bounds.

    >>> within("2.13.0+cpu", ">=2.6,<2.14"), within("2.14.0", ">=2.6,<2.14")
    (True, False)
    """
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return SpecifierSet(bounds).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _native() -> Check:
    """Whether numba compiles and runs a step, and caches the compiled code."""
    start = time.perf_counter()
    try:
        from melisma.engine.resources.micro_benchmark import random_matrix, run_once
        from melisma.simd.jit import cache_folder
        from melisma.simd.selection import selected

        run_once(random_matrix(64, 64, "int8"))
    except Exception as error:  # numba and the system fail in many ways
        return Check(
            name="native code",
            words=f"does not run: {' '.join(str(error).split())[:200]}",
            remedy="reinstall numba and llvmlite, pip install --force-reinstall numba",
        )
    seconds = time.perf_counter() - start
    cached = cache_folder(selected().name) is not None
    words = f"runs, first step after {seconds:.1f} s; compiled code is "
    words += "cached" if cached else "not cached: set NUMBA_CACHE_DIR to a writable folder"
    return Check(name="native code", words=words)


def _rendering() -> list[Check]:
    """SoundFont and synthesizer that render scores."""
    from melisma.symbolic.soundfont.discovery import find_soundfont
    from melisma.symbolic.soundfont.fluidsynth import has_fluidsynth

    synthesizer = "found: it renders scores; audio models and MIDI need none"
    if not has_fluidsynth():
        synthesizer = (
            "not installed, and not needed: Melisma's own synthesizer renders scores with the same "
            "soundfont, without vibrato; generated audio and MIDI files are the same"
        )
    try:
        soundfont = Check(name="soundfont", words=find_soundfont().path.name)
    except (OSError, ValueError) as error:
        soundfont = Check(name="soundfont", words="unusable", remedy=" ".join(str(error).split()))
    return [soundfont, Check(name="FluidSynth", words=synthesizer)]


def _folders(output: Path) -> list[Check]:
    """Disk space for pieces and for downloaded models."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    return [_disk("output folder", output), _disk("hub cache", cache)]


def _disk(name: str, folder: Path) -> Check:
    from melisma.engine.resources.memory import gigabytes

    existing = folder.resolve()
    while not existing.is_dir():
        existing = existing.parent
    if name == "output folder" and existing != folder.resolve():
        return Check(
            name=name, words=f"{folder} does not exist", remedy=f"create it: mkdir -p {folder}"
        )
    if not os.access(existing, os.W_OK):
        return Check(
            name=name, words=f"{folder} cannot be written to", remedy="choose another folder"
        )
    free = shutil.disk_usage(existing).free
    short = free < _LEAST_DISK_BYTES
    return Check(
        name=name,
        words=f"{gigabytes(free)} free in {folder.resolve()}",
        remedy=f"free some space on the disk of {folder.resolve()}" if short else None,
    )


def _model(
    facts: ModelFacts, precision: str, workload: Workload, threads: int | None
) -> tuple[list[Check], dict[str, object]]:
    """Memory and time that the planned run needs, as checks and as numbers for JSON."""
    from melisma.engine.resources.hardware import memory, processor
    from melisma.engine.resources.memory import estimate_memory, gigabytes

    need, available = estimate_memory(facts.sizes, precision, workload), memory().available_bytes
    numbers: dict[str, object] = {
        "name": facts.name, "precision": precision, "seconds": workload.seconds,
        "licence": facts.licence, "memory_bytes": need.bytes, "memory_parts": dict(need.parts),
        "available_bytes": available,
    }  # fmt: skip
    licence = facts.licence + ("" if facts.commercial else ": no commercial use")
    found = [Check(name="licence", words=licence)]
    if facts.folder is None:
        size = gigabytes(facts.disk_bytes)
        found.append(
            Check(name="weights", words=f"not downloaded yet: {size} are downloaded on first use")
        )
    fit = _fit(facts, precision, workload, need, available)
    found.append(fit)
    if fit.remedy is None:
        checks, estimates = _times(facts, precision, workload, threads or processor().threads)
        found += checks
        numbers |= estimates
    return found, numbers


def _times(
    facts: ModelFacts, precision: str, workload: Workload, threads: int
) -> tuple[list[Check], dict[str, object]]:
    """How long the planned run takes, and a score of the same length."""
    from melisma.generation.forecast import forecast, in_words, score_forecast

    found: list[Check] = []
    numbers: dict[str, object] = {}
    if facts.sound:
        estimate = forecast(facts, precision, workload, threads)
        found += _speed(estimate, facts, workload)
        numbers["forecast"] = asdict(estimate) | {"total_seconds": estimate.total_seconds}
    if facts.scores:
        score = replace(workload, pieces=facts.usual_score_candidates)
        estimate = score_forecast(facts, precision, score, threads)
        found.append(
            Check(
                name="score",
                words=f"{in_words(estimate.total_seconds)} in all with `melisma compose`, more for "
                "many instruments and fast notes",
                warning=_slow(estimate, "score", score),
            )
        )
        numbers["score_forecast"] = asdict(estimate) | {"total_seconds": estimate.total_seconds}
    return found, numbers


def _fit(
    facts: ModelFacts,
    precision: str,
    workload: Workload,
    need: MemoryEstimate,
    available: int | None,
) -> Check:
    """Whether the run fits into memory, with the largest parts first."""
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
        if fits(estimate_memory(facts.sizes, name, workload).bytes, available)
    ]
    advice = f"--precision {smaller[0]} would fit" if smaller else "use a smaller model"
    return Check(
        name="needs",
        words=text,
        remedy=f"{gigabytes(need.bytes)} do not fit into the {gigabytes(available)} that are free: "
        f"{advice}, or reduce --duration, or close other programs",
    )


def _speed(estimate: Forecast, facts: ModelFacts, workload: Workload) -> list[Check]:
    """Estimated duration of the run."""
    from melisma.generation.forecast import in_words

    found = []
    if facts.single and estimate.steps_a_second is not None and estimate.bytes_a_step is not None:
        (stage,) = facts.sizes.stages
        megabytes = estimate.bytes_a_step / 1e6
        stage_speed = estimate.steps_a_second / stage.frame_rate_hz / stage.stride
        found.append(
            Check(
                name="steps",
                words=f"{estimate.steps_a_second:.0f} per second, {megabytes:.0f} MB each: "
                f"{stage_speed:.2f} times real time "
                f"(measured on {estimate.tried_layers} of {stage.layers} layers)",
            )
        )
    speed = workload.seconds / estimate.whole_seconds
    loading = estimate.start_seconds + estimate.load_seconds
    count = f" and {workload.pieces} candidates" if workload.pieces > 1 else ""
    return [
        *found,
        Check(
            name="loading",
            words=f"{loading:.1f} s with the start of the program, more from a slow disk",
        ),
        Check(
            name="first sound",
            words=f"{estimate.first_sound_seconds or 0:.1f} s later with --stream",
        ),
        Check(
            name="whole piece",
            words=f"{in_words(estimate.whole_seconds)} later: {speed:.2f} times real time",
        ),
        Check(
            name="in all",
            words=f"{in_words(estimate.total_seconds)} for {workload.seconds:g} s of music{count}",
            warning=_slow(estimate, "piece", workload),
        ),
    ]


def _slow(estimate: Forecast, what: str, workload: Workload) -> str | None:
    """A warning if a run takes long."""
    if estimate.total_seconds < _LONG_SECONDS:
        return None
    from melisma.generation.forecast import in_words

    fewer = "--best-of 1, " if workload.pieces > 1 else ""
    return (
        f"a {what} of {workload.seconds:g} s will take about {in_words(estimate.total_seconds)}; "
        f"{fewer}a smaller model or a shorter --duration is faster"
    )
