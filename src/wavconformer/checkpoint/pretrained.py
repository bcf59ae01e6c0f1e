"""What a model gains by having files: `from_pretrained`, `save_pretrained`, `push_to_hub`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from wavconformer.checkpoint.loading import LoadingInfo, load_tensors, report, rounded_layers
from wavconformer.checkpoint.weights import (
    INT8,
    SAFETENSORS,
    LazyTensor,
    open_weights,
    remove_other_weights,
    save_weights,
)
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import CheckpointError, ConfigError
from wavconformer.files import Source, first_line, push_folder, staged, write_json
from wavconformer.model.base import SpeechModel
from wavconformer.model.quantization import is_int8, prepare, quantize, require_int8

Model = TypeVar("Model", bound="PreTrained")

# Arguments that the Hugging Face classes take and that have no meaning here: attention is always the fused kind,
# memory always low, and no code of a checkpoint is ever run.
_MEANINGLESS = ("attn_implementation", "low_cpu_mem_usage", "trust_remote_code", "weights_only", "resume_download")
# What config.json says of a checkpoint whose large layers are int8 (`wavconformer.model.quantization`).
_INT8 = {"quant_method": "wavconformer", "weights": "int8"}


class PreTrained(SpeechModel):
    """A model that can be read from and written to a checkpoint folder or the Hugging Face Hub."""

    config_class: ClassVar[type[Wav2Vec2ConformerConfig]] = Wav2Vec2ConformerConfig
    # Arguments of the constructor beyond the configuration, which `from_pretrained` passes on.
    model_arguments: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_pretrained(
        cls: type[Model],
        name: str | os.PathLike[str],
        *,
        config: Wav2Vec2ConformerConfig | str | os.PathLike[str] | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | int | None = None,
        quantization: str | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        use_safetensors: bool | None = None,
        **arguments: Any,
    ) -> Any:
        """Reads a model of a folder or Hub repository, in eval mode.

        name: path of a folder, or "owner/name" on the Hub.
        config: a configuration, or where to read it, in place of the checkpoint's own.
        dtype: type of the weights: float32 unless asked otherwise; "auto" for that of the file.
        device: where the model goes; the CPU by default. `device_map` with one device means the same.
        quantization: "int8" rounds the large layers' weights, for a CPU; the rest stays float32. What `save_pretrained`
            writes of such a model is int8 as well, and loads as that.
        ignore_mismatched_sizes: give weights whose shape differs new starting values instead of raising.
        output_loading_info: return (model, info), the latter a dict of missing, unexpected and mismatched names.
        use_safetensors: insist on (True) or refuse (False) that format.
        revision, cache_dir, token, local_files_only, force_download, subfolder: as in `wavconformer.files.Source`.
        Any other keyword overrides the configuration's value of that name; one that is no such value is a TypeError.

        The weights are mapped from the file, so that the peak of memory is about one copy of them. Weights that a
        head needs and the checkpoint lacks start anew, with a warning.

        Raises CheckpointError where files are missing or broken, weights of the backbone are missing or shapes
        differ; ConfigError for the configuration of another kind of model; ValueError where int8 can't be.
        """
        for meaningless in _MEANINGLESS:
            arguments.pop(meaningless, None)
        dtype = arguments.pop("torch_dtype", None) if dtype is None else dtype
        place = find_device(_one_device(arguments.pop("device_map", None)) if device is None else device)
        if "use_auth_token" in arguments:  # the older name
            arguments.setdefault("token", arguments.pop("use_auth_token"))
        model_arguments = {key: arguments.pop(key) for key in cls.model_arguments if key in arguments}
        source = Source.take(name, arguments)
        config = cls._configuration(source, config, arguments)
        _refuse_foreign_rounding(config, source)
        with open_weights(source, use_safetensors) as tensors:
            is_rounded = any(name.endswith(".weight_scale") for name in tensors)
            if quantization is not None or is_rounded:
                _require_int8("int8" if quantization is None else quantization, dtype, place)
                dtype = torch.float32  # of what isn't rounded
            config.extra.pop("quantization_config", None)
            model = cls._on_meta(config, model_arguments)
            if is_rounded:
                prepare(model, rounded_layers(model, tensors))
            info = load_tensors(
                model,
                tensors,
                place=str(source),
                dtype=_dtype(dtype, config, tensors),
                ignore_mismatched_sizes=ignore_mismatched_sizes,
            )
            model._after_loading(source, info, **model_arguments)
        report(info, model, str(source))
        if quantization is not None and not is_rounded:
            quantize(model)
        model.config.name_or_path = str(name)
        model.to(place).eval()
        return (model, info.as_dict()) if output_loading_info else model

    @classmethod
    def _configuration(
        cls,
        source: Source,
        config: Wav2Vec2ConformerConfig | str | os.PathLike[str] | None,
        overrides: dict[str, Any],
    ) -> Wav2Vec2ConformerConfig:
        if isinstance(config, Wav2Vec2ConformerConfig):
            unknown = overrides.keys() - {*config.names(), *config.extra}
        else:
            where = source if config is None else Source(config)
            unknown = cls.config_class.unknown(where, overrides)
        if unknown:
            name = min(unknown)
            close = get_close_matches(name, cls.config_class.names(), 1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise TypeError(f"from_pretrained() doesn't know the argument '{name}'{hint}")
        if isinstance(config, Wav2Vec2ConformerConfig):
            return config.copy(**overrides)
        return cls.config_class.from_source(where, **overrides)

    @classmethod
    def _on_meta(cls: type[Model], config: Wav2Vec2ConformerConfig, model_arguments: dict[str, Any]) -> Model:
        """The model without memory for its weights."""
        try:
            with torch.device("meta"):
                return cls(config, **model_arguments)
        except (RuntimeError, OverflowError) as error:
            raise ConfigError(f"No model can be made of this configuration: {first_line(error)}.") from error

    def _after_loading(self, source: Source, info: LoadingInfo, **model_arguments: Any) -> None:
        """What a class adds once its weights are there; `model_arguments` are those it was made with."""

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        max_shard_size: int | str = "5GB",
        state_dict: Mapping[str, Tensor] | None = None,
        is_main_process: bool = True,
        push_to_hub: bool = False,
        safe_serialization: bool = True,
        **arguments: Any,
    ) -> None:
        """Writes config.json and the weights, as safetensors, into a folder, made if missing.

        max_shard_size: bytes, or "500MB", above which the weights are split into shards.
        state_dict: the weights to write in place of the model's own, as a wrapped or sharded training gathers them.
        is_main_process: False writes nothing; for all but one of several processes.
        push_to_hub: upload the folder as well, as `push_to_hub` does, to `repo_id` or the folder's name.

        The files take their places together once all are whole: an error leaves an earlier checkpoint as it was.
        Weights of an earlier save under other names are removed. Raises ValueError for safe_serialization=False.
        """
        if not safe_serialization:
            raise ValueError("wavconformer writes safetensors alone: pickled weights can run code where they are read.")
        if not is_main_process:
            return
        place = Path(folder)
        if place.is_file():
            raise CheckpointError(f"'{place}' is a file: give a folder to save to.")
        weights = self.state_dict() if state_dict is None else state_dict
        config = {
            **self.config.to_dict(),
            "architectures": [type(self).__name__],
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        is_rounded = is_int8(self)
        if is_rounded:
            config["quantization_config"] = _INT8
        with staged(place) as unfinished:
            name = INT8 if is_rounded else SAFETENSORS
            written = save_weights(weights, unfinished, max_shard_size, name)
            write_json(unfinished / "config.json", config)
        remove_other_weights(place, {path.name for path in written})
        if push_to_hub:
            self.push_to_hub(arguments.pop("repo_id", place.name), max_shard_size=max_shard_size, **arguments)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload model",
        token: str | bool | None = None,
        private: bool | None = None,
        max_shard_size: int | str = "5GB",
    ) -> str:
        """Uploads config.json and the weights to a Hub repository, made if missing; returns the commit's address."""

        def save(folder: Path) -> None:
            self.save_pretrained(folder, max_shard_size=max_shard_size)

        return push_folder(save, repo_id, commit_message=commit_message, token=token, private=private)


def _refuse_foreign_rounding(config: Wav2Vec2ConformerConfig, source: Source) -> None:
    stored = config.extra.get("quantization_config")
    if stored not in (None, _INT8):
        method = stored.get("quant_method") if isinstance(stored, dict) else stored
        raise CheckpointError(
            f"{source} holds weights quantized by '{method}', which can't be read here: take the "
            "unquantized checkpoint."
        )


def _require_int8(quantization: str, dtype: torch.dtype | str | None, place: torch.device) -> None:
    if quantization != "int8":
        raise ValueError(f"quantization is {quantization!r}, but must be 'int8' or None.")
    if place.type != "cpu":
        raise ValueError(f"int8 runs on a CPU, not on '{place}': leave device out, or load without quantization.")
    if dtype not in (None, "auto", "float32", torch.float32):
        raise ValueError(f"dtype is {dtype}, but what an int8 model doesn't round is float32: leave dtype out.")
    require_int8()


def _dtype(
    dtype: torch.dtype | str | None, config: Wav2Vec2ConformerConfig, tensors: Mapping[str, LazyTensor]
) -> torch.dtype:
    if dtype == "auto":
        stored = (tensor.read().dtype for tensor in tensors.values())
        dtype = config.dtype or next((kind for kind in stored if kind.is_floating_point), None)
    found = getattr(torch, str(dtype or "float32").removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}, but must be a floating type such as torch.float16, or 'auto'.")
    return found


def _one_device(device_map: Any) -> Any:
    """The device that a `device_map` means."""
    if isinstance(device_map, Mapping):
        if set(device_map) != {""}:
            raise ValueError("device_map may name one device for the whole model: these models aren't split.")
        device_map = device_map[""]
    return default_device() if device_map == "auto" else device_map


def find_device(device: torch.device | str | int | None) -> torch.device:
    """That device, the CPU for None; ValueError where there is no such device here."""
    try:
        found = torch.device("cpu" if device is None else device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The device '{device}' can't be used here: {first_line(error)}. Use 'cpu'.") from error
    return found


def default_device() -> torch.device:
    """The fastest device at hand: CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
