"""`melisma render`: from a MIDI file to an audio file, with stems on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import melisma
from melisma.cli import options
from melisma.cli.arguments import unknown_name
from melisma.cli.output_paths import audio_paths, plot_paths, stem_paths
from melisma.cli.progress import progress_bar
from melisma.values.errors import MelismaError


def render(
    file: Annotated[Path, typer.Argument(help="A Standard MIDI file (.mid).")],
    output: options.Output = None,
    form: options.Format = None,
    soundfont: options.Soundfont = None,
    room: options.Room = "studio",
    stems: options.Stems = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render a MIDI file to audio."""
    from melisma.sound.reverberation import ROOMS

    if room not in ROOMS:
        raise MelismaError(unknown_name("room", room, list(ROOMS)))
    from melisma.files.provenance import provenance_from_fields
    from melisma.generation.requests.render import RenderRequest, run_render
    from melisma.symbolic.midi import midi_bytes, read_midi
    from melisma.symbolic.tags import read_midi_tags

    data = midi_bytes(file)
    path = mix_path(file, output, form)
    (picture,) = plot_paths(plot, 1)
    stem_paths(stems, [path])
    # The audio inherits the provenance of its score.
    tags = read_midi_tags(data)
    request = RenderRequest(
        score=read_midi(data),
        provenance=None if tags is None else provenance_from_fields(tags),
        title=file.stem,
        path=path,
        plot=picture,
        stems=stems,
        soundfont=soundfont,
        room=room,
    )
    with progress_bar("rendering", quiet=quiet) as progress:
        receipt = run_render(request, progress)
    if as_json:
        print(json.dumps({"version": melisma.__version__} | receipt, indent=2, ensure_ascii=False))
    elif not quiet:
        print_receipt(receipt)


def mix_path(file: Path, output: str | None, form: str | None) -> Path:
    """Path of the mix: the given file, or the score's name in the given or the current folder."""
    ending = (form or "wav").lower().removeprefix(".")
    if output is None:
        output = f"{file.stem}.{ending}"
    elif Path(output).is_dir() or output.endswith("/"):
        output = str(Path(output) / f"{file.stem}.{ending}")
    return audio_paths(output, form, [file.stem], 0)[0]


def print_receipt(receipt: dict[str, object]) -> None:
    """Prints a line about the mix, one about the stems, and one for each remark."""
    stems, remarks = receipt["stems"], receipt["remarks"]
    assert isinstance(stems, list)
    assert isinstance(remarks, list)
    facts = [f"{receipt['seconds']:g} s", f"{receipt['parts']} parts"]
    if receipt["loudness_lufs"] is not None:
        facts.append(f"{receipt['loudness_lufs']:.1f} LUFS")
    facts += [str(receipt["engine"]), Path(str(receipt["soundfont"])).name]
    print(f"{receipt['path']}  ({', '.join(facts)})")
    if stems:
        print(f"{Path(stems[0]).parent}  ({len(stems) // 2} stems, as audio and as MIDI)")
    for remark in remarks:
        print(f"note: {remark}")
