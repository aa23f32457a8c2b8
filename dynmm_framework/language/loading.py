"""Loads frozen causal language models: from the hub, a folder, a record or a GGUF file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.atomic import atomic_folder
from dynmm_framework.artifacts.digests import digest_file
from dynmm_framework.artifacts.locks import waiting_lock
from dynmm_framework.artifacts.pretrained import load_strictly, quiet_transformers, unloadable
from dynmm_framework.artifacts.sources import default_cache
from dynmm_framework.artifacts.weights import locate, origin_of, refuse_pointer
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.config import CausalLMConfig
from dynmm_framework.protocols import Context
from dynmm_framework.training.seeding import seeded

INSTEAD = "Without a hub: the record smollm2_135m, or a folder of your own (model: ./llm)."
GGUF = ".gguf"
_MAGIC = b"GGUF"
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")


def load_causal_lm(config: CausalLMConfig, ctx: Context) -> CausalLM:
    """Loads a causal language model and its tokenizer, frozen, onto ``ctx.device``.

    Code that comes with weights is never run, and weights that are missing are never made up.

    Args:
        config: What to load, and how.
        ctx: The stage's context; fetches records and names the device.

    Raises:
        ArtifactError: If weights or tokenizer are missing, damaged, cut off or of another
            architecture; names the file and the fix.
        StageError: If it cannot be loaded as asked: bits without a GPU, a context that is too
            long, memory that runs out.
    """
    quantised = _quantisation(config, ctx)
    place = locate(config.model, config.revision, ctx, instead=INSTEAD)
    gguf = find_gguf(place)
    if gguf is not None and origin_of(config.model) == "record" and not quantised:
        place, gguf = converted_gguf(gguf, ctx), None
    with seeded(ctx, "weights"):
        if gguf is None:
            tokenizer = load_tokenizer(place)
            network = _from_folder(place, config, quantised)
        else:
            tokenizer, network = _from_gguf(gguf, config, quantised)
    try:
        network = network if quantised else network.to(ctx.device)
    except RuntimeError as error:
        from dynmm_framework.training.guard import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise StageError(
            f"stage {ctx.stage}: {config.model} does not fit into the memory of {ctx.device}",
            hint="Set dtype: bf16, or quantise: 8 or 4 on a GPU; or take a smaller model.",
        ) from error
    _check_vocabulary(tokenizer, network, place)
    return CausalLM(
        network,
        tokenizer,
        name=config.model,
        context_length=config.context_length,
        checkpointing=config.checkpointing,
    )


def find_gguf(place: Path) -> Path | None:
    """Returns the GGUF file that ``place`` is or holds; ``None`` if it is a folder of another kind.

    Raises:
        ArtifactError: If the folder holds several and no other weights, or the file is none, cut
            off before its header or a Git LFS pointer.
    """
    if place.is_file():
        found = [place]
        if place.suffix != GGUF:
            raise ArtifactError(
                f"{place} is neither a folder nor a GGUF file",
                hint=f"Name the folder that holds settings, weights and tokenizer: {place.parent}",
            )
    else:
        found = sorted(place.glob(f"*{GGUF}"))
        if not found or any(place.glob("*.safetensors")):
            return None
        if len(found) > 1:
            raise ArtifactError(
                f"{place} holds several models: {', '.join(file.name for file in found[:5])}",
                hint="Name the file itself in model.",
            )
    refuse_pointer(found[0])
    with found[0].open("rb") as file:
        head = file.read(len(_MAGIC))
    if head != _MAGIC:
        raise ArtifactError(
            f"{found[0]} is no GGUF file: it begins with {head!r}, not {_MAGIC!r}",
            hint="Download it again.",
        )
    return found[0]


def converted_gguf(file: Path, ctx: Context) -> Path:
    """Returns a folder of the cache with a GGUF file's model as safetensors, made once.

    Reading bits back into numbers takes as long as reading a model many times its size. For files
    of records, which are small and known; those of one's own are read as they are.

    Raises:
        ArtifactError: If the file is damaged, or the cache cannot be written.
    """
    root = default_cache() / "converted"
    digest = digest_file(file).sha256[:16]
    folder = root / f"{digest}-transformers-{version('transformers')}"
    with waiting_lock(root / ".locks" / f"{folder.name}.lock", f"converts {file.name}"):
        if not folder.is_dir():
            ctx.log(f"converting {file.name} to safetensors, once, in {folder}")
            tokenizer, network = _from_gguf(file, CausalLMConfig(), {})
            with atomic_folder(folder) as partial, quiet_transformers():
                _save(network, partial)
                tokenizer.save_pretrained(partial)
    return folder


def _save(network: Any, folder: Path) -> None:
    """Writes a model that came from a GGUF file, which the library itself does not save."""
    from safetensors.torch import save_file

    settings = network.config
    if hasattr(settings, "quantization_config"):
        del settings.quantization_config  # its weights are numbers by now
    settings.save_pretrained(folder)
    network.generation_config.save_pretrained(folder)
    tensors: dict[str, Any] = {}
    for name, tensor in network.state_dict().items():
        # The head of many models is their embeddings; it is tied again when they are loaded.
        if all(tensor.data_ptr() != other.data_ptr() for other in tensors.values()):
            tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer of a folder.

    Raises:
        ArtifactError: If there is none, or it cannot be loaded.
    """
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        # The library would make up an empty one.
        raise ArtifactError(
            f"{folder} has no tokenizer: none of {', '.join(_VOCABULARIES[:3])}",
            hint="Download the whole repository; a tokenizer belongs to each model.",
        )
    return _tokenizer(folder)


def _tokenizer(folder: Path, **settings: Any) -> Any:
    from transformers import AutoTokenizer

    factory: Any = AutoTokenizer
    try:
        with quiet_transformers():
            return factory.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **settings
            )
    except Exception as error:
        raise unloadable(folder, error) from error


def _from_folder(folder: Path, config: CausalLMConfig, quantised: Mapping[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    return load_strictly(
        AutoModelForCausalLM, folder, unused=("lm_head.weight",) if _tied(folder) else (),
        dtype=_dtype(config), **quantised,
    )  # fmt: skip


def _from_gguf(file: Path, config: CausalLMConfig, quantised: Mapping[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise ArtifactError(
                f"{file} is a GGUF file, which needs the package {package}",
                hint="pip install 'dynmm-framework[llm]'",
            )
    factory: Any = AutoModelForCausalLM
    try:
        # The library's bar of converted tensors heeds none of its settings.
        with quiet_transformers(), redirect_stderr(StringIO()):
            tokenizer = _tokenizer(file.parent, gguf_file=file.name)
            network, info = factory.from_pretrained(
                file.parent,
                gguf_file=file.name,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=_dtype(config),
                **quantised,
            )
    except Exception as error:
        cause = error.__cause__ if isinstance(error, ArtifactError) else error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ArtifactError(
            f"{file} cannot be read ({reason}): it is damaged, cut off, or of an architecture that "
            "the installed transformers cannot read from GGUF",
            hint=f"Download it again and compare its size ({file.stat().st_size:,} bytes here).",
        ) from error
    lacking = [name for name in sorted(info["missing_keys"]) if "rotary" not in name]
    if lacking:
        raise ArtifactError(
            f"{file} lacks weights: {', '.join(lacking[:5])}",
            hint="Download it again, or take another conversion of the model.",
        )
    return tokenizer, network


def _tied(folder: Path) -> bool:
    from dynmm_framework.artifacts.atomic import read_json

    settings = folder / "config.json"
    return settings.is_file() and bool(read_json(settings).get("tie_word_embeddings", True))


def _dtype(config: CausalLMConfig) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.dtype]


def _quantisation(config: CausalLMConfig, ctx: Context) -> dict[str, Any]:
    """Returns what loads the weights in few bits; nothing if that is not asked for."""
    if config.quantise is None:
        return {}
    what = f"stage {ctx.stage}: quantise: {config.quantise}"
    if not ctx.device.startswith("cuda"):
        raise StageError(
            f"{what} needs a GPU, and the device is {ctx.device}",
            hint="Leave quantise out here; dtype: bf16 halves the memory.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise StageError(
            f"{what} needs the package bitsandbytes, which is not installed",
            hint="pip install bitsandbytes",
        )
    from transformers import BitsAndBytesConfig

    bits: Any = BitsAndBytesConfig
    settings = bits(
        load_in_8bit=config.quantise == 8,
        load_in_4bit=config.quantise == 4,
        bnb_4bit_compute_dtype=_dtype(config),
    )
    return {"quantization_config": settings, "device_map": {"": ctx.device}}


def _check_vocabulary(tokenizer: Any, network: Any, place: Path) -> None:
    rows = int(network.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise ArtifactError(
            f"{place}: its tokenizer has {len(tokenizer):,} tokens and its model {rows:,}; they do "
            "not belong together",
            hint="Download both from the same repository and revision.",
        )
