"""Published checkpoints: a folder in the layout of the package transformers, read without it.

Enters: a folder with `config.json` and either `model.safetensors` or shards of it with
`model.safetensors.index.json`. Leaves: the configuration as JSON values, and tensors by name, one
at a time and straight from the file, so that a checkpoint of 13 GB is never twice in memory. Names,
shapes and sizes come from the files' headers alone (layout: the safetensors format, "8 bytes, a
JSON header, the data"); torch is loaded with the first tensor, not before.

Weights that are pickled (`pytorch_model.bin`, audiocraft's `state_dict.bin`) are never opened,
because a pickle runs whatever it holds. `hub.py` finds the folder of a name.
"""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MODEL_TYPES = ("musicgen", "musicgen_melody")
"""Families that can be read, as `model_type` of config.json names them."""
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TWINS = {
    "text_encoder.encoder.embed_tokens.weight": "text_encoder.shared.weight",
    "encoder.embed_tokens.weight": "shared.weight",
}
"""One tensor under two names: the word table of T5 (1910.10683), in a larger model or by itself.
A file may hold either or both."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.th", "*.ckpt")
_LARGEST_HEADER_BYTES = 100_000_000
"""As the package safetensors has it; a longer header is damage or an attack."""
_NAMED = 3
"""Names in a message; the rest is counted."""


def is_published(folder: Path) -> bool:
    """Whether a folder is meant as a published checkpoint, and not as one of ours.

    Ours (`codec.safetensors`, `coarse_lm.safetensors` ...) have no config.json. A damaged
    config.json and audiocraft's pickles count too: `read_config` says what is wrong with them.
    """
    if not (folder / CONFIG).is_file():
        return not any(folder.glob("*.safetensors")) and (folder / "state_dict.bin").is_file()
    try:
        return "model_type" in _read_json(folder / CONFIG)
    except ValueError:
        return True


def read_config(folder: Path, families: Collection[str] = MODEL_TYPES) -> dict[str, Any]:
    """config.json of a checkpoint whose `model_type` is one of `families`.

    Raises `ValueError` with one sentence: no such file, damaged, another family, audiocraft's own.
    """
    path = folder / CONFIG
    if not path.is_file():
        if any(folder.glob("*.safetensors")) or not _pickles(folder):
            raise ValueError(
                f"{folder} holds no {CONFIG}: give the folder of a checkpoint in the layout of "
                "transformers, whole"
            )
        raise ValueError(_pickled_sentence(folder))
    config = _read_json(path)
    found = config.get("model_type")
    if found not in families:
        said = f'is of the family "{found}"' if isinstance(found, str) else "names no family"
        raise ValueError(f"{path} {said}: read are {' and '.join(families)}")
    return config


def read_generation_config(folder: Path) -> dict[str, Any]:
    """generation_config.json, how its makers draw from it; empty where there is none."""
    path = folder / "generation_config.json"
    return _read_json(path) if path.is_file() else {}


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, the tokenizer's bounds and special tokens; empty where there is
    none."""
    path = folder / "tokenizer_config.json"
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON (truncated or damaged): fetch it again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no JSON object: it is not what transformers writes")
    return values


def _pickles(folder: Path) -> list[str]:
    return sorted(path.name for ending in _PICKLES for path in folder.glob(ending))


def conversion_command(source: str) -> str:
    """A command for a shell that turns a checkpoint's pickled weights into safetensors, in a folder
    "converted". It needs the package transformers, and trust in who made the weights."""
    return python_command(
        "from transformers import AutoModelForTextToWaveform as M, AutoTokenizer as T; "
        f"n = {source!r}; M.from_pretrained(n).save_pretrained('converted', "
        "safe_serialization=True); T.from_pretrained(n).save_pretrained('converted')"
    )


def python_command(code: str) -> str:
    """A command for a shell that runs a line of Python; double quotes, which are easier to read
    and to copy, where nothing in the line means something to the shell."""
    plain = not set(code) & set('"$`\\!')
    return f'python -c "{code}"' if plain else f"python -c {shlex.quote(code)}"


def _pickled_sentence(folder: Path) -> str:
    said = f"{folder} holds only pickled weights ({_listed(_pickles(folder))}), which can run any "
    said += "code and are never read here"
    if (folder / CONFIG).is_file():
        return f"{said}: if you trust them, convert them once, {conversion_command(str(folder))}"
    return (
        f"{said}, and in audiocraft's own layout at that: take the same model in the layout of "
        "transformers, by its name on the hub, as in "
        f"{conversion_command('facebook/musicgen-small')}"
    )


def missing_weights(folder: Path) -> tuple[str, ...]:
    """Files with weights that a checkpoint lacks: its shards, or all it could have; empty where
    it is whole. `ValueError` where the index is damaged."""
    if (folder / WEIGHTS).is_file():
        return ()
    if not (folder / INDEX).is_file():
        return (WEIGHTS,)
    shards = sorted(set(_shards_by_name(folder).values()))
    return tuple(shard for shard in shards if not (folder / shard).is_file())


def _shards_by_name(folder: Path) -> dict[str, str]:
    """Tensor -> file, as the index has it; only files beside the index are believed."""
    path = folder / INDEX
    shards = _read_json(path).get("weight_map")
    sound = isinstance(shards, dict) and all(
        isinstance(shard, str) and Path(shard).name == shard and shard.endswith(".safetensors")
        for shard in shards.values()
    )
    if not sound or not shards:
        raise ValueError(f"{path} is damaged: its weight_map must name safetensors files beside it")
    return shards


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """What a file's header says of one tensor."""

    shape: tuple[int, ...]
    precision: str
    """As safetensors calls it: "F32", "F16", "BF16" ..."""
    bytes: int
    path: Path
    """The file that holds it."""


@final
class PublishedTensors:
    """The tensors of a checkpoint: headers are read at once, a tensor when it is asked for.

    A name and its twin (`TWINS`) stand for one another. A tensor may be a view of the file's own
    pages: do not overwrite the file while tensors live.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `ValueError` where the weights are missing, pickled, truncated or damaged."""
        self.folder = folder
        self._stored = _stored_tensors(folder)
        self._opened: dict[Path, Any] = {}

    def names(self, prefix: str = "") -> tuple[str, ...]:
        """Names that begin with a prefix, in order; of twins only those that the files hold."""
        return tuple(sorted(name for name in self._stored if name.startswith(prefix)))

    def __contains__(self, name: str) -> bool:
        return self._held_as(name) is not None

    def stored(self, name: str) -> StoredTensor:
        """What is known of a tensor without reading it; `ValueError` where there is none."""
        held = self._held_as(name)
        if held is None:
            raise ValueError(
                f"{self.folder} holds no tensor {name}: its weights are of another model"
            )
        return self._stored[held]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self.stored(name).shape

    def get(self, name: str, precision: torch.dtype | None = None) -> Tensor:
        """A tensor on the processor, as it is stored, or numbers in another `precision`."""
        path = self.stored(name).path
        try:
            if path not in self._opened:
                self._opened[path] = safe_open(path, framework="pt")
            tensor = self._opened[path].get_tensor(self._held_as(name))
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
        if precision is None or not tensor.is_floating_point():
            return tensor
        return tensor.to(precision)

    def items(
        self, prefix: str = "", precision: torch.dtype | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of all that begin with a prefix, one after the other."""
        for name in self.names(prefix):
            yield name, self.get(name, precision)

    @property
    def bytes(self) -> int:
        """What the tensors take on disk, headers left out."""
        return sum(stored.bytes for stored in self._stored.values())

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together, tables of codes and positions included."""
        return sum(prod(stored.shape) for stored in self._stored.values())

    def _held_as(self, name: str) -> str | None:
        """The name under which the files hold a tensor."""
        return next((held for held in (name, *_twins(name)) if held in self._stored), None)


def _twins(name: str) -> list[str]:
    """Other names of a tensor."""
    return [b if name == a else a for a, b in TWINS.items() if name in (a, b)]


def _stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Name -> what the headers say, over all files."""
    if (folder / WEIGHTS).is_file():
        return _read_header(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        if _pickles(folder) and not any(folder.glob("*.safetensors")):
            raise ValueError(_pickled_sentence(folder))
        raise ValueError(
            f"{folder} holds neither {WEIGHTS} nor {INDEX}: fetch the whole checkpoint"
        )
    missing = missing_weights(folder)
    if missing:
        raise ValueError(
            f"{folder} lacks {_listed(missing)}, which {INDEX} names: fetch the whole checkpoint"
        )
    by_name = _shards_by_name(folder)
    shards = {shard: _read_header(folder / shard) for shard in sorted(set(by_name.values()))}
    absent = [name for name, shard in by_name.items() if name not in shards[shard]]
    if absent:
        raise ValueError(
            f"{folder / INDEX} promises {_listed(absent)}, which its files do not hold: index and "
            "files belong to different checkpoints, fetch them again"
        )
    # What a shard holds beyond the index is there too; the index decides between two of a name.
    stored = {name: tensor for shard in shards.values() for name, tensor in shard.items()}
    return stored | {name: shards[shard][name] for name, shard in by_name.items()}


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """The header of a safetensors file, checked against the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise ValueError(f"{path} is a pointer of git-lfs, not the weights: run `git lfs pull`")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise ValueError(f"{path} is no whole safetensors file (truncated?): fetch it again")
        text = file.read(length)
    try:
        header = {k: v for k, v in json.loads(text).items() if k != "__metadata__"}
        stored, end = {}, 0
        for name, entry in header.items():
            first, last = (int(place) for place in entry["data_offsets"])
            shape = tuple(int(extent) for extent in entry["shape"])
            if min(shape, default=0) < 0 or not 0 <= first <= last:
                raise ValueError(name)
            end = max(end, last)
            stored[name] = StoredTensor(
                shape=shape, precision=str(entry["dtype"]), bytes=last - first, path=path
            )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} has a damaged header: fetch it again") from error
    if size != 8 + length + end:
        state = "cut short" if size < 8 + length + end else "damaged"
        raise ValueError(
            f"{path} is {state}: it has {size} bytes where {8 + length + end} are announced: "
            "fetch it again"
        )
    return stored


def expect_tensors(
    tensors: PublishedTensors,
    expected: Mapping[str, tuple[int, ...]],
    *,
    prefix: str = "",
    spare: tuple[str, ...] = (),
) -> None:
    """`ValueError` unless the tensors whose names begin with `prefix` are those expected.

    `expected`: name -> shape. `spare`: beginnings of names that may be there and are not needed.
    Of twins one is enough. The message names the first few that are missing, of another shape, or
    too many, and counts them.
    """
    missing = [name for name in expected if name not in tensors]
    misshapen = [
        f"{name} is {_shaped(tensors.shape(name))} instead of {_shaped(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors.shape(name) != tuple(shape)
    ]
    known = {other for name in expected for other in (name, *_twins(name))}
    extra = [n for n in tensors.names(prefix) if n not in known and not (n.startswith(spare))]
    faults = [
        (len(missing), "missing", missing),
        (len(misshapen), "of another shape", misshapen),
        (len(extra), "too many", extra),
    ]
    said = [f"{count} {what} ({_listed(names)})" for count, what, names in faults if count]
    if said:
        raise ValueError(
            f"the weights in {tensors.folder} do not fit its {CONFIG}, tensors are "
            f"{'; '.join(said)}: fetch both again, or from where they belong together"
        )


def _shaped(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    first = list(names)[:_NAMED]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
