"""A command with grouped help, other names for its options, and advice where an option is unknown.

What people know from other programs is either understood (`OTHER_NAMES`) or answered with what to
write instead (`ADVICE`); otherwise the most similar names of the command are suggested.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from melisma.cli.options import GROUPS
from melisma.values.errors import MelismaError

OTHER_NAMES: Mapping[str, str] = {
    "--metre": "--time-signature",
    "--meter": "--time-signature",
    "--drawing": "--sampling",
    "--seconds": "--duration",
}
"""Names of earlier versions that are understood wherever the command has the option; help pages do
not show them."""

ADVICE: Mapping[str, tuple[str, ...]] = {
    "--length": ("--duration",),
    "--len": ("--duration",),
    "--secs": ("--duration",),
    "--time": ("--duration",),
    "--out": ("--output",),
    "--outfile": ("--output",),
    "--output-file": ("--output",),
    "--output-dir": ("--output",),
    "--outdir": ("--output",),
    "--to": ("--output",),
    "--save": ("--output",),
    "--file": ("--output",),
    "--filename": ("--output",),
    "--n": ("--count",),
    "--num": ("--count",),
    "--number": ("--count",),
    "--num-samples": ("--count",),
    "--samples": ("--count",),
    "--batch": ("--count",),
    "--batch-size": ("--count",),
    "--variations": ("--count",),
    "--candidates": ("--best-of",),
    "--tries": ("--best-of",),
    "--cfg": ("--guidance",),
    "--cfg-coef": ("--guidance",),
    "--cfg-scale": ("--guidance",),
    "--guidance-scale": ("--guidance",),
    "--temp": ("--temperature", "--temperature-semantic"),
    "--topk": ("--top-k", "--top-k-semantic"),
    "--topp": ("--top-p",),
    "--nucleus": ("--top-p",),
    "--random-seed": ("--seed",),
    "--rng": ("--seed",),
    "--checkpoint": ("--model",),
    "--weights": ("--model",),
    "--ckpt": ("--model",),
    "--tonality": ("--key",),
    "--scale": ("--key",),
    "--signature": ("--time-signature",),
    "--beats-per-minute": ("--bpm",),
    "--speed": ("--bpm",),
    "--tempo": ("--bpm",),
    "--instrument": ("--instruments",),
    "--genre": ("--style",),
    "--composer": ("--style",),
    "--tune": ("--melody",),
    "--hum": ("--melody",),
    "--continue": ("--continue-from",),
    "--continuation": ("--continue-from",),
    "--extend": ("--continue-from",),
    "--inpaint": ("--infill",),
    "--dtype": ("--precision",),
    "--half": ("--precision",),
    "--fp16": ("--precision",),
    "--quantize": ("--precision",),
    "--jobs": ("--threads", "--workers"),
    "--cpus": ("--threads", "--workers"),
    "--wav": ("--audio", "--output"),
    "--mp3": ("--audio", "--output"),
    "--sf2": ("--soundfont",),
    "--reverb": ("--room",),
    "--tracks": ("--stems",),
    "--picture": ("--plot",),
    "--spectrogram": ("--plot",),
    "--silent": ("--quiet",),
    "--negative": ("--without",),
    "--negative-prompt": ("--without",),
    "--no": ("--without",),
    "--overwrite": ("--output",),
}
"""Names of other programs -> options of ours, of which those are named that the command has."""

SENTENCES: Mapping[str, str] = {
    "--force": "a file that is named with --output is replaced without being asked",
    "--overwrite": "a file that is named with --output is replaced without being asked",
    "--yes": "nothing is ever asked",
    "--steps": "the models sample token by token and have no number of steps: --best-of gives "
    "better pieces for more time, --duration longer ones",
    "--sampler": "the models sample token by token: --temperature and --top-k are their settings, "
    "by stage where they have stages",
    "--scheduler": "the models sample token by token and have no scheduler",
    "--lyrics": "nothing is sung here: leave out the lyrics",
    "--voice": "nothing is sung here; to follow a tune that you sing use --melody",
    "--verbose": "a progress bar is shown on a terminal, and --json prints everything that is "
    "known about a piece; MELISMA_TRACEBACK=1 shows where an error was raised",
    "--version": "the version is printed by `melisma --version`",
    "--prompt": 'a prompt is written without an option, e.g. melisma generate "a slow piano waltz"',
    "--text": 'a prompt is written without an option, e.g. melisma generate "a slow piano waltz"',
    "--play": "nothing is played here: --stream --output - writes sound to a pipe, e.g. "
    "| ffplay -i -",
    "--device": "models of ours run on the processor, MusicGen on a CUDA device where there is one",
    "--gpu": "models of ours run on the processor, MusicGen on a CUDA device where there is one",
    "--cpu": "models of ours run on the processor, MusicGen on a CUDA device where there is one",
    "--sample-rate": "a model has one sample rate: `melisma render` makes 44.1 kHz, and audio "
    "programs convert",
    "generate --instruments": "audio models take instruments from the prompt: name them there, or "
    "use `melisma compose`",
    "generate --style": "audio models take the style from the prompt: name it there, or use "
    "`melisma compose`",
    "generate --bars": "audio has no bars: use --duration, or `melisma compose`",
    "--midi": "`melisma compose` writes MIDI files, `melisma render` reads them",
}
"""What to say where an option is not known, everywhere or in one command, and no single other one
takes its place."""

_SHORT: Mapping[str, str] = {
    "-v": "--verbose", "-V": "--version", "-n": "--count", "-d": "--duration", "-t": "--duration",
    "-s": "--seed", "-m": "--model", "-p": "--prompt", "-f": "--force", "-y": "--yes",
    "-l": "--duration", "-b": "--bpm", "-k": "--key", "-j": "--jobs", "-i": "--melody",
}  # fmt: skip
"""Short options of other programs -> what they mean there."""

VERBS: Mapping[str, str] = {
    "list": "`melisma models` lists the models",
    "ls": "`melisma models` lists the models",
    "version": "`melisma --version` prints the version",
    "info": "`melisma inspect FILE` says what a file is",
    "show": "`melisma inspect FILE` says what a file is",
    "play": "nothing is played here: `melisma generate "
    '"a jig" --stream --output -` writes sound to a pipe, e.g. | ffplay -i -',
    "transcribe": "`melisma compose --melody RECORDING` writes a melody down and accompanies it",
    "continue": "`melisma generate` and `melisma compose` have --continue-from",
    "extend": "`melisma generate` and `melisma compose` have --continue-from",
    "infill": "`melisma compose` has --infill",
    "inpaint": "`melisma compose` has --infill",
    "stream": "`melisma generate` has --stream",
    "convert": "`melisma render` makes sound of a MIDI file",
    "synth": "`melisma render` makes sound of a MIDI file",
    "synthesize": "`melisma render` makes sound of a MIDI file",
    "score": "`melisma compose` writes scores",
    "midi": "`melisma compose` writes MIDI files, `melisma render` makes sound of one",
    "sing": "nothing is sung here; `melisma generate --melody RECORDING` follows a tune",
    "serve": "there is no server yet: `melisma generate` works in the shell, `import melisma` in "
    "Python",
    "web": "there is no web page yet: `melisma generate` works in the shell, `import melisma` in "
    "Python",
    "ui": "there is no web page yet: `melisma generate` works in the shell, `import melisma` in "
    "Python",
    "finetune": "`melisma train RECIPE --set start=MODEL` goes on from a model",
    "benchmark": "`melisma doctor` estimates speed, `melisma evaluate` measures quality",
}
"""What people call for that has another name here, or is not there."""

ArgumentError: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
"""The base class of all errors about arguments: typer imports click or vendors a copy of it, but it
always exports this subclass."""


class Verb(TyperCommand):
    """A command of the program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments, under other names of options too."""
        names = _names(self, ctx)
        try:
            return super().parse_args(ctx, _translated(args, names))
        except ArgumentError as error:
            _advise(error, names, ctx)
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line says after the name of the command."""
        pieces = ["[OPTIONS]"]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = _argument_name(param)
                pieces.append((name if param.required else f"[{name}]") + "..." * (param.nargs < 0))
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options by group, those of no group last."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            group = getattr(param, "rich_help_panel", None) or "Options"
            names = _TYPE.sub(lambda found: _METAVARS.get(found[1], found[1].upper()), record[0])
            if param.param_type_name == "argument":
                group, names = "Arguments", _argument_name(param)
            rows.setdefault(group, []).append((names, _plain(record[1])))
        known = ("Arguments", *GROUPS)
        order = [*known, *(group for group in rows if group not in known and group != "Options")]
        for group in (*order, "Options"):
            if group in rows:
                with formatter.section(group):
                    formatter.write_dl(rows[group])


class VerbGroup(TyperGroup):
    """The program, whose commands are verbs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments before the verb."""
        try:
            return super().parse_args(ctx, args)
        except ArgumentError as error:
            _advise(error, _names(self, ctx), ctx)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the verb; where there is none, says which is meant."""
        try:
            return super().resolve_command(ctx, args)
        except ArgumentError:
            raise MelismaError(verb_advice(args[0], list(self.commands))) from None


def _advise(error: Exception, names: Iterable[str], ctx: Any) -> None:
    """Raises the advice about an unknown option; returns where the error is another one."""
    unknown = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and isinstance(unknown, str):
        raise MelismaError(advice(unknown, names, str(ctx.command_path))) from None


def _names(command: Any, ctx: Any) -> list[str]:
    """All names of the options of a command."""
    return [
        name
        for param in command.get_params(ctx)
        if param.param_type_name == "option"
        for name in (*param.opts, *param.secondary_opts)
    ]


_TYPE = re.compile(r"<(?:list\[)?(\w+)\]?>")
"""How typer writes the type of an option that has no metavar."""
_METAVARS = {"int": "N", "float": "NUMBER", "str": "NAME", "Path": "PATH"}


def _argument_name(param: Any) -> str:
    """An argument as help pages write it, e.g. "FILE"."""
    return str(param.metavar or param.name).rstrip(".").upper()


def _plain(text: str) -> str:
    """A help text; typer puts defaults that are words into brackets of their own."""
    return re.sub(r"\[default: \((.*)\)\]", r"[default: \1]", text)


def _translated(args: Iterable[str], names: Iterable[str]) -> list[str]:
    """The arguments with `OTHER_NAMES` replaced, up to "--"."""
    known, out, options = set(names), [], True
    for word in args:
        options = options and word != "--"
        name, equals, value = word.partition("=")
        other = OTHER_NAMES.get(name)
        if options and other in known and name not in known:
            word = other + equals + value
        out.append(word)
    return out


def advice(unknown: str, names: Iterable[str], command: str) -> str:
    """The sentence about an option that a command does not have.

    Args:
        unknown: As it was typed.
        names: The options of the command.
        command: As it is typed, e.g. "melisma generate".
    """
    known = list(names)
    plain = _SHORT.get(unknown, unknown).lower().replace("_", "-")
    start = f"`{command}` has no option {unknown}: "
    if plain in known:
        return start + f"did you mean {plain}?"
    meant = [name for name in ADVICE.get(plain, ()) if name in known]
    if plain in OTHER_NAMES and OTHER_NAMES[plain] in known:
        meant = [OTHER_NAMES[plain]]
    sentence = SENTENCES.get(f"{command.removeprefix('melisma ')} {plain}") or SENTENCES.get(plain)
    if sentence:
        return start + sentence
    if meant:
        return start + f"did you mean {' or '.join(meant)}?"
    similar = difflib.get_close_matches(plain, [n for n in known if n.startswith("--")], cutoff=0.6)
    starting = [name for name in known if name.startswith(plain) and len(plain) > 3]
    if found := list(dict.fromkeys([*starting, *similar])):
        return start + f"did you mean {' or '.join(found[:3])}?"
    return start + f"`{command} --help` lists those that it has"


def verb_advice(unknown: str, verbs: Iterable[str]) -> str:
    """The sentence about a verb that there is not."""
    known = list(verbs)
    start = f"there is no command {unknown}: "
    plain = unknown.lower()
    if plain in VERBS:
        return start + VERBS[plain]
    if similar := difflib.get_close_matches(plain, known, cutoff=0.6):
        return start + f"did you mean {' or '.join(similar)}?"
    return start + f'choose one of {", ".join(known)}; a prompt follows "generate" or "compose"'
