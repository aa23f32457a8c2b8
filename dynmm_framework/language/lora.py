"""Low-rank adaptation (Hu et al., ICLR 2022) of a language model that nobody else may notice."""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.artifacts.weights import locate, weights_file
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.protocols import Context, LanguageModel, State
from dynmm_framework.training.state import load_module_state, module_state

ADAPTER = "default"
_QUERY_AND_VALUE = (
    ("q_proj", "v_proj"),  # LLaMA, OPT, Qwen, Mistral, Gemma, Phi, GPT-Neo, GPT-J
    ("c_attn",),  # GPT-2: query, key and value in one
    ("query_key_value",),  # GPT-NeoX, BLOOM, Falcon
    ("qkv_proj",),  # Phi-3, CodeGen
    ("Wqkv",),  # MPT
)
"""What projections to queries and values are called, by family of architecture."""


class AdaptedLM(CausalLM):
    """A language model with low-rank adapters, on the weights of another that stays as it is.

    The modules are its own, the frozen weights are the very ones of the other model, so a second
    model costs no memory but its adapters'. Untrained adapters change nothing: the second matrix
    of each begins at zero.

    Args:
        llm: The frozen language model.
        rank: Rank of each update.
        alpha: The updates are scaled by ``alpha / rank``.
        dropout: Share of an adapter's inputs that is dropped in training.
        targets: Names of the linear layers that are adapted; those that project to queries and
            values, found by looking, if ``None``.

    Attributes:
        adapters: The adapters alone: what is trained and stored.

    Raises:
        StageError: If the model has no weights here, or no such layers, or peft is missing.
    """

    def __init__(
        self,
        llm: LanguageModel,
        *,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.05,
        targets: Sequence[str] | None = None,
    ) -> None:
        frozen = getattr(llm, "lm", llm)
        network = getattr(frozen, "network", None)
        if not isinstance(network, nn.Module):
            raise StageError(
                f"{type(llm).__name__} has no weights in this process, so none can be adapted",
                hint="Name a language model that runs here, such as smollm2_135m.",
            )
        super().__init__(
            sharing_weights(network),
            llm.tokenizer,
            name=str(getattr(frozen, "name", "the language model")),
            context_length=llm.context_length,
            checkpointing=bool(getattr(frozen, "checkpointing", False)),
        )
        self.rank, self.alpha = rank, alpha
        self.targets = tuple(targets or query_and_value_layers(network))
        self.adapters = _inject(self.network, self.targets, rank, alpha, dropout, self.name)

    def load(self, ctx: Context) -> None:
        """Does nothing: its weights are those of a model that is loaded."""

    def adapter_state(self) -> State:
        """Returns the adapters' arrays by the name of their layer."""
        return {
            name.replace("/", ".").replace(f".{ADAPTER}.", "."): array
            for name, array in module_state(self.adapters).items()
        }

    def load_adapter_state(self, state: State) -> None:
        """Restores what :meth:`adapter_state` returned.

        Raises:
            ArtifactError: If names or shapes do not fit; names them and changes nothing.
        """
        names = {
            name.replace("/", ".").replace(f".{ADAPTER}.", "."): name
            for name in self.adapters.state_dict()
        }
        load_module_state(self.adapters, {names.get(n, n): array for n, array in state.items()})


def sharing_weights(network: nn.Module) -> nn.Module:
    """Returns the same network with modules of its own and the very same weights."""
    tensors = [*network.parameters(), *network.buffers()]
    twin: nn.Module = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    return twin


def query_and_value_layers(network: nn.Module) -> tuple[str, ...]:
    """Returns what an architecture calls its projections to queries and values.

    Raises:
        StageError: If they cannot be told; lists the linear layers there are.
    """
    linear = {
        name.rpartition(".")[2]
        for name, module in network.named_modules()
        if getattr(module, "weight", None) is not None
        and module.weight.dim() == 2
        and not isinstance(module, nn.Embedding)
    }
    for names in _QUERY_AND_VALUE:
        if linear.issuperset(names):
            return names
    raise StageError(
        f"a {type(network).__name__} has no layers known to project to queries and values",
        hint=f"Name the layers to adapt in the settings; there are: {', '.join(sorted(linear))}.",
    )


def read_adapter(place: str, model: AdaptedLM, ctx: Context) -> None:
    """Loads trained adapters from a file, or a folder as peft writes it.

    Args:
        place: A safetensors file, or a folder that holds ``adapter_model.safetensors`` and may
            hold ``adapter_config.json``.
        model: Takes the adapters.
        ctx: The stage's context.

    Raises:
        ArtifactError: If there is none, or it is a Git LFS pointer, a pickle, damaged, or of
            another rank, scale, or model; a model never goes on without the adapter it was to
            have.
    """
    path = locate(place, None, ctx)
    settings = (path if path.is_dir() else path.parent) / "adapter_config.json"
    if settings.is_file():
        _agree(settings, model)
    file = weights_file(path, preferred=("adapter_model.safetensors",))
    arrays = {
        re.sub(r"^base_model\.model\.", "", name): array
        for name, array in load_arrays(file).items()
    }
    try:
        model.load_adapter_state(arrays)
    except ArtifactError as error:
        raise ArtifactError(
            f"{file} does not fit {model.name} with adapters of rank {model.rank} on "
            f"{', '.join(model.targets)}: {error.message}",
            hint="Set rank and layers as it was trained with, and the same language model.",
        ) from error


def _agree(settings: Path, model: AdaptedLM) -> None:
    told = read_json(settings)
    found = {"r": told.get("r"), "lora_alpha": told.get("lora_alpha")}
    wanted = {"r": model.rank, "lora_alpha": model.alpha}
    if found != wanted:
        raise ArtifactError(
            f"{settings} says {found}, the settings here {wanted}: the adapter would be scaled "
            "otherwise than it was trained",
            hint="Set rank and alpha as in that file.",
        )


def _inject(
    network: Any, targets: Sequence[str], rank: int, alpha: float, dropout: float, name: str
) -> nn.ModuleDict:
    if importlib.util.find_spec("peft") is None:
        raise StageError(
            "adapting a language model needs the package peft, which is not installed",
            hint="pip install 'dynmm-framework[llm]'",
        )
    from peft import LoraConfig, inject_adapter_in_model

    factory: Any = LoraConfig
    settings = factory(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), bias="none"
    )
    try:
        inject_adapter_in_model(settings, network, ADAPTER)
    except ValueError as error:
        raise StageError(
            f"{name} has no layers {', '.join(targets)} that can be adapted: {error}",
            hint="Name others in the settings.",
        ) from error
    parts = nn.ModuleDict()
    for path, module in network.named_modules():
        if hasattr(module, "lora_A"):
            own = {part: getattr(module, part) for part in ("lora_A", "lora_B", "lora_dropout")}
            parts[path.replace(".", "/")] = nn.ModuleDict(own)
    # Low-rank factors are kept in full precision, whatever the frozen weights are in.
    parts.float()
    for parameter in parts.parameters():
        parameter.requires_grad_(True)
    torch.nn.Module.eval(parts)
    return parts
