"""A recommender that is as good as it is told to be, and fails as it is told to."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.config.blocks import Block
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


class ToyConfig(Block):
    """Settings of the toy."""

    quality: Annotated[float, Field(ge=0, le=1)] = 0.5
    """0 ranks at random, 1 by popularity."""
    width: Annotated[int, Field(ge=1, le=64)] = 8
    """Changes nothing."""
    depth: Annotated[int, Field(ge=1)] = 2
    """Divides the width."""
    epochs: Annotated[int, Field(ge=1)] = 3
    """Epochs; each reports the quality that it is on the way to."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time of all epochs together."""
    fails: Literal["no", "crash", "nan", "memory", "disk", "kill", "kill_once", "interrupt"] = "no"
    """How training ends."""
    log: str = ""
    """A file that has a line for every training."""

    @model_validator(mode="after")
    def _depth_divides_width(self) -> ToyConfig:
        if self.width % self.depth:
            raise ValueError(f"depth ({self.depth}) must divide width ({self.width})")
        return self


class Toy:
    """Scores by popularity and noise."""

    def __init__(self, config: ToyConfig) -> None:
        self.config = config
        self.scores = np.zeros(0, np.float32)

    def fit(self, data: Any, ctx: Any) -> None:
        config = self.config
        if config.log:
            with Path(config.log).open("a") as file:
                file.write(f"{config.quality} {ctx.stage} {os.getpid()}\n")
        for epoch in range(1, config.epochs + 1):
            time.sleep(config.seconds / config.epochs)
            reached = config.quality * epoch / config.epochs
            ctx.epoch_finished(epoch, {"loss": 1 - reached, ctx.validator.metric: reached})
            self._fail(ctx)
        counts = data.train.item_counts().astype(np.float64)
        noise = np.random.default_rng(0).permutation(np.sort(counts))
        self.scores = (config.quality * counts + (1 - config.quality) * noise).astype(np.float32)
        if config.fails == "nan":
            self.scores[:] = np.nan

    def _fail(self, ctx: Any) -> None:
        match self.config.fails:
            case "crash":
                raise ZeroDivisionError("the toy is broken")
            case "memory":
                raise MemoryError("the toy is too large")
            case "disk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ctx.workdir / "x"))
            case "interrupt":
                raise KeyboardInterrupt
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill_once":
                marker = Path(self.config.log).with_suffix(".killed")
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

    def score(self, histories: Any, candidates: Any = None) -> Any:
        if candidates is not None:
            return self.scores[candidates]
        return np.repeat(self.scores[None, :], len(histories), axis=0)

    def get_state(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def load_state(self, state: Any) -> None:
        self.scores = np.asarray(state["scores"], np.float32)


class Plugin:
    @hookimpl
    def dynmm_register_baselines(self):
        return dynmm_register_baselines()


@hookimpl
def dynmm_register_baselines():
    return [
        ComponentSpec(
            name=name,
            target=f"{__name__}:Toy",
            config=f"{__name__}:ToyConfig",
            summary="A toy",
        )
        for name in ("toy", "other_toy")
    ]


USED = [
    "ranking_metrics", "popularity", "item_knn", "bpr_mf", "sasrec", "lightgcn", "sgl",
    "joint_alignment", "gated_mlp", "soft_prompt", "hf_causal", "tfidf_text", "movielens",
    "saved_dataset", "sequence_file",
]  # fmt: skip
"""Plugins of these tests; without the registry, whose records every search would read."""


def toys_catalogue() -> Catalogue:
    catalogue = load_catalogue(only=USED)
    catalogue.register(Plugin(), name="toys", distribution="toys", version="1.0")
    return catalogue


def toys_site(folder: Path) -> str:
    """Writes a distribution that registers the toys; returns a PYTHONPATH that has both."""
    info = folder / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dynmm_framework.plugins]\ntoys = search_toys\n")
    return os.pathsep.join([str(folder), str(Path(__file__).parent)])
