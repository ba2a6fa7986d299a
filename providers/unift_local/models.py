"""Which model is meant, whether it can be trained on safely, and what its layers are called.

Everything here is read from ``config.json`` and from the headers of the safetensors files
(https://huggingface.co/docs/safetensors: 8 bytes of length, then JSON): no torch, no weights.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from unift.errors import ProviderError, UsageError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: Linear weights that are no attention or MLP projection: tables of words and positions, the head
#: (its loss is computed from the plain weight), and the routers of expert models.
_NOT_PROJECTIONS = frozenset(
    {"embed_tokens", "wte", "wpe", "embed_in", "embed_out", "word_embeddings", "lm_head"}
    | {"output", "gate", "router", "shared_expert_gate"}
)
#: Settings of `config.json` that hold the context length, by model family.
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


@dataclass(frozen=True)
class BaseModelFiles:
    """A resolved base model.

    `reference` is an absolute folder or a hub id: what adapters remember as their base.
    `folder` holds config and tokenizer, and the weights unless `complete` is False (a hub model
    that the worker has yet to download).
    """

    reference: str
    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    revision: str | None = None
    complete: bool = True

    @property
    def context(self) -> int | None:
        """Longest sequence that the model was made for, in tokens."""
        config = {**self.config, **self.config.get("text_config", {})}
        found = [config[key] for key in _CONTEXT_KEYS if isinstance(config.get(key), int)]
        return found[0] if found else None

    @property
    def parameters(self) -> int:
        """Number of weights; 0 when the files are not here yet."""
        return sum(prod(shape) for shape in self.shapes.values())

    @property
    def words(self) -> int | None:
        """Tokens that the model has an embedding for."""
        config = {**self.config, **self.config.get("text_config", {})}
        found = config.get("vocab_size")
        return found if isinstance(found, int) else None

    def projections(self) -> tuple[str, ...]:
        """Names of the attention and MLP projections, e.g. q_proj; empty when unknown."""
        names = {
            key.split(".")[-2]
            for key, shape in self.shapes.items()
            if key.endswith(".weight") and len(shape) == 2 and key.count(".") >= 2
        }
        return tuple(sorted(names - _NOT_PROJECTIONS))

    def adapter_parameters(self, targets: tuple[str, ...], rank: int) -> int:
        """Weights of a LoRA adapter: rank * (inputs + outputs) for each target (Hu et al. 2021)."""
        return sum(
            rank * sum(shape)
            for key, shape in self.shapes.items()
            if key.endswith(".weight") and len(shape) == 2 and key.split(".")[-2] in targets
        )


def resolve_model(name: str) -> BaseModelFiles:
    """Find a base model: ``demo``, a folder (``path:``), or a hub id (``hf:``).

    Raises:
        UsageError: No such folder, no config.json, no weights, or weights only as pickles.
        ProviderError: A hub model that is neither cached nor can be downloaded.
    """
    if name == "demo":
        from unift import demo

        return _from_folder(demo.model_path(), "demo")
    kind, _, rest = name.partition(":")
    if kind == "path":
        return _from_folder(Path(rest).expanduser(), name)
    if kind == "hf":
        return _from_hub(rest)
    if kind == "run":
        raise UsageError(
            f"'{name}' is what a run left, and a training starts from a base model.",
            code="model_is_run",
            where="model",
            fix="train on the base of that run with the rows of both; if it tuned all weights, "
            f"give the folder that `unift runs show {rest}` names",
        )
    path = Path(name).expanduser()
    if path.is_dir() or name.startswith(("/", "./", "../", "~")):
        return _from_folder(path, name)
    return _from_hub(name)


def _from_folder(path: Path, name: str) -> BaseModelFiles:
    folder = path.resolve()
    if not folder.is_dir():
        raise UsageError(
            f"There is no model folder '{path}'.",
            code="model_not_found",
            where=name,
            fix="give an existing folder, a hub id such as Qwen/Qwen3-0.6B, or 'demo'",
        )
    config, shapes = _inspect(folder, name)
    return BaseModelFiles(str(folder), folder, config, shapes)


def _inspect(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UsageError(
            f"'{folder}' is an adapter, not a base model.",
            code="model_is_adapter",
            where=name,
            fix="train on its base model (base_model_name_or_path in adapter_config.json)",
        )
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"'{folder}' holds no config.json, so it is no model.",
            code="model_incomplete",
            where=name,
            fix="point at the folder that holds config.json, *.safetensors and the tokenizer",
        ) from None
    except ValueError as error:
        raise UsageError(
            f"The config.json of the model cannot be read: {error}.",
            code="model_incomplete",
            where=str(folder / "config.json"),
            fix="download the model again",
        ) from error
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise UsageError(
                f"The model has its weights only as pickle files ({', '.join(pickles[:3])}). "
                "Loading a pickle can run any code, so unift reads safetensors only.",
                code="pickle_weights",
                where=name,
                fix="use a safetensors version of the model, or convert it once with "
                "safetensors' own converter in a sandbox",
            )
        raise UsageError(
            f"'{folder}' holds a config.json but no weights (*.safetensors).",
            code="model_without_weights",
            where=name,
            fix="download the model completely",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        for key, entry in _header(file).items():
            if key != "__metadata__":
                shapes[key] = tuple(entry["shape"])
    return config, shapes


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[0] != "_"]
            if 8 + length + max(ends, default=0) > path.stat().st_size:
                raise ValueError("the file is cut off")
            return header
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"The weight file is damaged: {error}.",
            code="model_incomplete",
            where=str(path),
            fix="download the model again",
        ) from error


def _from_hub(name: str) -> BaseModelFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    small = ["*.json", "*.jinja", "*.model", "*.txt", "*.py"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=small))
    except HFValidationError as error:
        raise UsageError(
            f"'{name}' is neither a folder nor a hub id.",
            code="model_not_found",
            where="model",
            fix="give an existing folder, a hub id such as Qwen/Qwen3-0.6B, or 'demo'",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ProviderError(
            f"The model '{name}' is not on this machine and cannot be downloaded: "
            f"{str(error).splitlines()[0]}",
            code="model_download_failed",
            where="model",
            fix="check the name, the network and, if gated, HF_TOKEN; or use a local folder",
        ) from error
    # The weights are fetched by the worker; when they are cached, the layers are known now.
    if any(folder.glob("*.safetensors")):
        config, shapes = _inspect(folder, name)
        return BaseModelFiles(name, folder, config, shapes, revision=folder.name)
    config = json.loads((folder / "config.json").read_bytes())
    return BaseModelFiles(name, folder, config, revision=folder.name, complete=False)


def download(name: str, revision: str | None) -> Path:
    """The folder with the whole hub model: config, tokenizer and safetensors; never pickles.

    Raises:
        ProviderError: It cannot be downloaded.
        UsageError: It has no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.jinja", "*.model", "*.txt", "*.py", "*.safetensors"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ProviderError(
            f"The model '{name}' cannot be downloaded: {str(error).splitlines()[0]}",
            code="model_download_failed",
            where="model",
            fix="check the network and the free disk space, then resume the run",
        ) from error
    _inspect(folder, name)
    return folder
