"""Reader of published checkpoints in the layout of the package transformers, without that package.

Input: a folder with `config.json` and either `model.safetensors` or shards of it with
`model.safetensors.index.json`. Output: the configuration as JSON values, and tensors by name, read
one at a time directly from the file, so that a checkpoint of 13 GB is never in memory twice. Names,
shapes and sizes come from the files' headers (layout: the safetensors format, "8 bytes, a JSON
header, the data"); torch is imported with the first tensor only.

Pickled weights (`pytorch_model.bin`, audiocraft's `state_dict.bin`) are never opened, because
unpickling can run arbitrary code. `hub.py` resolves a name to a folder.
"""

from __future__ import annotations

import shlex
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from safetensors import SafetensorError, safe_open

from melisma.files.typed_json import expect_sizes, parse_json, read_json, some_fields, typed
from melisma.values.errors import MelismaError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MODEL_TYPES = ("musicgen", "musicgen_melody")
"""Supported values of `model_type` in config.json."""
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TIED_NAMES = {
    "text_encoder.encoder.embed_tokens.weight": "text_encoder.shared.weight",
    "encoder.embed_tokens.weight": "shared.weight",
}
"""Tied weights under two names: the token embedding of T5 (1910.10683), in a larger model or by
itself. A file may hold either or both."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.th", "*.ckpt")
_LARGEST_HEADER_BYTES = 100_000_000
"""Limit of the package safetensors; a longer header is damage or an attack."""
_LISTED_NAMES = 3
"""Names listed in a message; the rest is counted."""
FOREIGN_ERRORS = (SafetensorError, ArithmeticError, KeyError, RuntimeError, TypeError, ValueError)
"""What the package safetensors raises for damaged files, by version and kind of damage."""


def is_published(folder: Path) -> bool:
    """Whether a folder holds a published checkpoint rather than a model of Melisma.

    Melisma's (`codec.safetensors`, `coarse_lm.safetensors` ...) have no config.json. A damaged
    config.json and audiocraft's pickles count as published: `read_config` reports the problem.
    """
    if not (folder / CONFIG).is_file():
        return not any(folder.glob("*.safetensors")) and (folder / "state_dict.bin").is_file()
    try:
        return "model_type" in _read_json(folder / CONFIG)
    except ValueError:
        return True


def read_config(folder: Path, families: Collection[str] = MODEL_TYPES) -> dict[str, Any]:
    """Reads config.json of a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        families: Allowed values of `model_type`.

    Raises:
        MelismaError: The file is missing or damaged, the family is another one, or the layout is
            audiocraft's own.
    """
    path = folder / CONFIG
    if not path.is_file():
        if any(folder.glob("*.safetensors")) or not _pickles(folder):
            raise MelismaError(
                f"{folder} holds no {CONFIG}: give the folder of a checkpoint in the layout of "
                "transformers, whole"
            )
        raise MelismaError(_pickled_sentence(folder))
    config = _read_json(path)
    found = config.get("model_type")
    if found not in families:
        family = f'is of the family "{found}"' if isinstance(found, str) else "names no family"
        raise MelismaError(f"{path} {family}: read are {' and '.join(families)}")
    return config


def read_generation_config(folder: Path) -> dict[str, Any]:
    """Reads generation_config.json, the published sampling settings; empty if it is missing."""
    path = folder / "generation_config.json"
    return _read_json(path) if path.is_file() else {}


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Reads tokenizer_config.json, the tokenizer's limits and special tokens; empty if missing."""
    path = folder / "tokenizer_config.json"
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except MelismaError as error:
        raise MelismaError(f"{path} is no JSON (truncated or damaged): fetch it again") from error
    if not isinstance(values, dict):
        raise MelismaError(f"{path} holds no JSON object: it is not what transformers writes")
    return values


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """What of the configuration of MusicGen's decoder is used, under the names of transformers."""

    hidden_size: int
    ffn_dim: int
    num_codebooks: int
    vocab_size: int
    num_hidden_layers: int
    num_attention_heads: int
    audio_channels: int = 1
    max_position_embeddings: int = 2048
    activation_function: str = "gelu"


@dataclass(frozen=True, kw_only=True)
class _TextConfig:
    d_model: int


@dataclass(frozen=True, kw_only=True)
class MusicgenConfig:
    """What of a whole configuration is used besides that of the codec."""

    decoder: DecoderConfig
    text_width: int
    """Width of the states of the text encoder."""
    melody: bool
    """Whether the model follows a melody."""
    chroma_length: int = 235
    num_chroma: int = 12

    @property
    def stereo(self) -> bool:
        """Whether the codebooks are those of two channels, interleaved."""
        return self.decoder.audio_channels == 2


def musicgen_config(config: Mapping[str, Any], name: str = "") -> MusicgenConfig:
    """Checks a configuration of MusicGen.

    Args:
        config: Content of its config.json.
        name: Of the checkpoint, for the message.

    Raises:
        MelismaError: Something is missing, of another type, or beyond all limits.
    """
    try:
        decoder = some_fields(config.get("decoder"), DecoderConfig, "decoder")
        text = some_fields(config.get("text_encoder"), _TextConfig, "text_encoder")
        rest = {name: config[name] for name in ("chroma_length", "num_chroma") if name in config}
        melody = config.get("model_type") == "musicgen_melody"
        expect_sizes(asdict(decoder))
        expect_sizes({"d_model": text.d_model, **rest})
        for one in ("hidden_size", "ffn_dim", "num_codebooks", "vocab_size"):
            if not getattr(decoder, one):
                raise MelismaError(f"decoder.{one} is 0")
        fields = {**rest, "decoder": asdict(decoder), "text_width": text.d_model, "melody": melody}
        return typed(fields, MusicgenConfig)
    except MelismaError as error:
        whose = f"the configuration of {name}" if name else "this configuration"
        raise MelismaError(f"{whose} is damaged, or not of MusicGen: {error}") from error


def _pickles(folder: Path) -> list[str]:
    return sorted(path.name for ending in _PICKLES for path in folder.glob(ending))


def conversion_command(source: str) -> str:
    """Shell command that converts a checkpoint's pickled weights to safetensors, in the folder
    "converted". It needs the package transformers, and trust in the source of the weights."""
    return python_command(
        "from transformers import AutoModelForTextToWaveform as M, AutoTokenizer as T; "
        f"n = {source!r}; M.from_pretrained(n).save_pretrained('converted', "
        "safe_serialization=True); T.from_pretrained(n).save_pretrained('converted')"
    )


def python_command(code: str) -> str:
    """Shell command that runs a line of Python; in double quotes, which are easier to read and to
    copy, where the line holds no character that is special to the shell."""
    plain = not set(code) & set('"$`\\!')
    return f'python -c "{code}"' if plain else f"python -c {shlex.quote(code)}"


def _pickled_sentence(folder: Path) -> str:
    message = (
        f"{folder} holds only pickled weights ({_listed(_pickles(folder))}), which can run any "
    )
    message += "code and are never read here"
    if (folder / CONFIG).is_file():
        return f"{message}: if you trust them, convert them once, {conversion_command(str(folder))}"
    return (
        f"{message}, and in audiocraft's own layout at that: take the same model in the layout of "
        "transformers, by its name on the hub, as in "
        f"{conversion_command('facebook/musicgen-small')}"
    )


def missing_weights(folder: Path) -> tuple[str, ...]:
    """Weight files that a checkpoint lacks; empty where it is complete.

    Returns:
        The missing shards of the index, or `WEIGHTS` where there is neither file nor index.

    Raises:
        MelismaError: The index is damaged.
    """
    if (folder / WEIGHTS).is_file():
        return ()
    if not (folder / INDEX).is_file():
        return (WEIGHTS,)
    shards = sorted(set(_shards_by_name(folder).values()))
    return tuple(shard for shard in shards if not (folder / shard).is_file())


def _shards_by_name(folder: Path) -> dict[str, str]:
    """Tensor name -> file name from the index; only files beside the index are accepted."""
    path = folder / INDEX
    shards = _read_json(path).get("weight_map")
    valid = isinstance(shards, dict) and all(
        isinstance(shard, str) and Path(shard).name == shard and shard.endswith(".safetensors")
        for shard in shards.values()
    )
    if not valid or not shards:
        raise MelismaError(
            f"{path} is damaged: its weight_map must name safetensors files beside it"
        )
    return shards


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Metadata of one tensor from a file's header."""

    shape: tuple[int, ...]
    precision: str
    """Dtype in the notation of safetensors: "F32", "F16", "BF16" ..."""
    bytes: int
    path: Path
    """The file that holds it."""


@dataclass(frozen=True, kw_only=True)
class _HeaderEntry:
    """One tensor in the header of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@final
class PublishedTensors:
    """The tensors of a checkpoint: headers are read on opening, a tensor on access.

    Tied names (`TIED_NAMES`) are interchangeable. A tensor may be a view of the memory-mapped file:
    do not overwrite the file while tensors are in use.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `MelismaError` where the weights are missing, pickled, truncated or damaged."""
        self.folder = folder
        self._stored = _stored_tensors(folder)
        self._opened: dict[Path, Any] = {}
        self._finite: set[str] = set()

    def names(self, prefix: str = "") -> tuple[str, ...]:
        """Sorted names that begin with a prefix; of tied names only those that the files hold."""
        return tuple(sorted(name for name in self._stored if name.startswith(prefix)))

    def __contains__(self, name: str) -> bool:
        return self._stored_name(name) is not None

    def stored(self, name: str) -> StoredTensor:
        """Metadata of a tensor, without reading it; `MelismaError` where there is none."""
        stored = self._stored_name(name)
        if stored is None:
            raise MelismaError(
                f"{self.folder} holds no tensor {name}: its weights are of another model"
            )
        return self._stored[stored]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self.stored(name).shape

    def get(self, name: str, precision: torch.dtype | None = None) -> Tensor:
        """Reads a tensor to the CPU.

        Args:
            name: Name of the tensor, or its tied name.
            precision: Dtype of floating-point tensors; None: as stored.

        Raises:
            MelismaError: There is no such tensor, the file is damaged, or there are NaN or
                infinities among the weights.
        """
        path = self.stored(name).path
        try:
            if path not in self._opened:
                self._opened[path] = safe_open(path, framework="pt", device="cpu")
            tensor = self._opened[path].get_tensor(self._stored_name(name))
        except FOREIGN_ERRORS as error:
            raise MelismaError(f"{path} is damaged ({error}): fetch it again") from error
        if name not in self._finite:
            expect_finite(path, name, tensor)
            self._finite.add(name)
        if precision is None or not tensor.is_floating_point():
            return tensor
        return tensor.to(precision)

    def items(
        self, prefix: str = "", precision: torch.dtype | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterates over (name, tensor) of all tensors whose names begin with a prefix."""
        for name in self.names(prefix):
            yield name, self.get(name, precision)

    @property
    def bytes(self) -> int:
        """Size of all tensors on disk, without headers."""
        return sum(stored.bytes for stored in self._stored.values())

    @property
    def parameters(self) -> int:
        """Number of values in all tensors, including codebooks and position tables."""
        return sum(prod(stored.shape) for stored in self._stored.values())

    def _stored_name(self, name: str) -> str | None:
        """The name under which the files hold a tensor."""
        return next((one for one in (name, *_tied_names(name)) if one in self._stored), None)


def expect_finite(path: Path, name: str, weights: Tensor, deciding: Tensor | None = None) -> None:
    """Checks that there are neither NaN nor infinities among weights.

    A sum is not finite if any number is not, and is several times as fast as `isfinite`; the sum of
    finite numbers may overflow, so that the numbers themselves decide.

    Args:
        path: The file, for the message.
        name: Of the tensor.
        weights: Any tensor; those that are not of floating-point numbers are finite.
        deciding: What is tested first, the scales of quantized rows; None: the weights.

    Raises:
        MelismaError: There are some; the message counts them.
    """
    import torch

    tested = weights if deciding is None else deciding
    if not tested.is_floating_point() or isfinite(float(tested.sum(dtype=torch.float32))):
        return
    counts = {"NaN": int(weights.isnan().sum()), "infinite": int(weights.isinf().sum())}
    found = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    if found:
        raise MelismaError(
            f"the weights in {path} are damaged: {name} has {found} of {weights.numel()} values; "
            "fetch them again, or train them from an earlier state"
        )


def _tied_names(name: str) -> list[str]:
    """Other names of a tensor."""
    return [b if name == a else a for a, b in TIED_NAMES.items() if name in (a, b)]


def _stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Name -> metadata from the headers of all files."""
    if (folder / WEIGHTS).is_file():
        return _read_header(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        if _pickles(folder) and not any(folder.glob("*.safetensors")):
            raise MelismaError(_pickled_sentence(folder))
        raise MelismaError(
            f"{folder} holds neither {WEIGHTS} nor {INDEX}: fetch the whole checkpoint"
        )
    missing = missing_weights(folder)
    if missing:
        raise MelismaError(
            f"{folder} lacks {_listed(missing)}, which {INDEX} names: fetch the whole checkpoint"
        )
    by_name = _shards_by_name(folder)
    shards = {shard: _read_header(folder / shard) for shard in sorted(set(by_name.values()))}
    absent = [name for name, shard in by_name.items() if name not in shards[shard]]
    if absent:
        raise MelismaError(
            f"{folder / INDEX} promises {_listed(absent)}, which its files do not hold: index and "
            "files belong to different checkpoints, fetch them again"
        )
    # Tensors that the index omits are included; the index decides between duplicates.
    stored = {name: tensor for shard in shards.values() for name, tensor in shard.items()}
    return stored | {name: shards[shard][name] for name, shard in by_name.items()}


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """Reads the header of a safetensors file and checks it against the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise MelismaError(
                f"{path} is a pointer of git-lfs, not the weights: run `git lfs pull`"
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise MelismaError(f"{path} is no whole safetensors file (truncated?): fetch it again")
        text = file.read(length)
    try:
        header = typed(parse_json(text, "the header"), dict[str, Any])
        stored, end = {}, 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            one = typed(entry, _HeaderEntry, name)
            first, last = one.data_offsets
            if min(one.shape, default=0) < 0 or not 0 <= first <= last:
                raise MelismaError(name)
            end = max(end, last)
            stored[name] = StoredTensor(
                shape=one.shape, precision=one.dtype, bytes=last - first, path=path
            )
    except MelismaError as error:
        raise MelismaError(f"{path} has a damaged header: fetch it again") from error
    if size != 8 + length + end:
        state = "cut short" if size < 8 + length + end else "damaged"
        raise MelismaError(
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
    """Checks the names and shapes of a checkpoint's tensors.

    Args:
        tensors: The tensors.
        expected: Name -> shape. One of two tied names is enough.
        prefix: Only tensors whose names begin with it are checked for being too many.
        spare: Prefixes of the names of tensors that may be present and are not needed.

    Raises: MelismaError: Tensors are missing, of another shape, or too many; the message lists the
        first few of each kind and counts them.
    """
    missing = [name for name in expected if name not in tensors]
    misshapen = [
        f"{name} is {_shaped(tensors.shape(name))} instead of {_shaped(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors.shape(name) != tuple(shape)
    ]
    known = {other for name in expected for other in (name, *_tied_names(name))}
    extra = [n for n in tensors.names(prefix) if n not in known and not (n.startswith(spare))]
    faults = [
        (len(missing), "missing", missing),
        (len(misshapen), "of another shape", misshapen),
        (len(extra), "too many", extra),
    ]
    details = [f"{count} {what} ({_listed(names)})" for count, what, names in faults if count]
    if details:
        raise MelismaError(
            f"the weights in {tensors.folder} do not fit its {CONFIG}, tensors are "
            f"{'; '.join(details)}: fetch both again, or from where they belong together"
        )


def _shaped(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    first = list(names)[:_LISTED_NAMES]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
