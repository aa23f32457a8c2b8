"""Components that exist only as configuration models: nothing of a model is ever imported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from dynmm_framework.config.blocks import Block
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec, MetricSpec


class Optimiser(Block):
    """How weights are learned."""

    rate: Annotated[float, Field(gt=0)] = 1e-3
    """Step size."""
    betas: tuple[float, float] = (0.9, 0.98)


class DeepConfig(Block):
    """Settings of a deep backbone."""

    hidden_size: Annotated[int, Field(ge=1)] = 64
    """Width of the hidden states."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    norm: Literal["pre", "post"] = "pre"
    scale: bool = False
    window: int = 3600
    optimiser: Optimiser = Optimiser()

    @field_validator("window", mode="before")
    @classmethod
    def _hours(cls, value: Any) -> Any:
        return int(value[:-1]) * 3600 if isinstance(value, str) and value.endswith("h") else value


class CountConfig(Block):
    """Settings of counting."""

    smoothing: Annotated[float, Field(ge=0)] = 0.0


class FileConfig(Block):
    """Settings of a reader."""

    path: Path
    """The file."""
    columns: dict[str, str] = {}


class CrashingConfig(BaseModel):
    """A model with a bug."""

    size: int = 1

    @field_validator("size")
    @classmethod
    def _crash(cls, value: int) -> int:
        raise RuntimeError(f"bug at {value}")


def component(name: str, config: str, **fields: Any) -> ComponentSpec:
    here = "fake_components"
    return ComponentSpec(
        name=name,
        target=f"{here}:NeverImported",
        config=f"{here}:{config}",
        summary=f"The component {name}",
        **fields,
    )


class Plugin:
    """Bears two backbones, two baselines, two datasets and four metrics."""

    @hookimpl
    def dynmm_register_backbones(self) -> list[ComponentSpec]:
        return [component("Deep-Net", "DeepConfig"), component("crashing", "CrashingConfig")]

    @hookimpl
    def dynmm_register_baselines(self) -> list[ComponentSpec]:
        return [component("counts", "CountConfig"), component("unloadable", "NoSuchConfig")]

    @hookimpl
    def dynmm_register_datasets(self) -> list[ComponentSpec]:
        return [component("toy", "CountConfig"), component("file", "FileConfig")]

    @hookimpl
    def dynmm_register_metrics(self) -> list[MetricSpec]:
        metrics = [
            MetricSpec(name=name, target="a:b", higher_is_better=True, summary=name)
            for name in ("hit", "ndcg", "recall", "mrr")
        ]
        auc = MetricSpec(
            name="auc", target="a:b", higher_is_better=True, summary="auc", at_cutoff=False
        )
        return [*metrics, auc]


class Rival:
    """A second provider of ``counts`` and ``ndcg``."""

    @hookimpl
    def dynmm_register_baselines(self) -> list[ComponentSpec]:
        return [component("Counts", "CountConfig")]

    @hookimpl
    def dynmm_register_metrics(self) -> list[MetricSpec]:
        return [MetricSpec(name="ndcg", target="c:d", higher_is_better=True, summary="ndcg")]
