"""The stages of content: encoding items, aligning them with the backbone, prompting with both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynmm_framework.artifacts.arrays import save_arrays
from dynmm_framework.artifacts.store import StageWriter
from dynmm_framework.config.content import Control
from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Histories
from dynmm_framework.engine.digest import content_key, encoder_parts
from dynmm_framework.engine.evidence import EVIDENCE, offered
from dynmm_framework.engine.fitting import STATE_FILE, blamed
from dynmm_framework.engine.legs import fit_in_legs
from dynmm_framework.engine.plan import PlannedStage
from dynmm_framework.engine.seeds import spawn_rng
from dynmm_framework.explain.refresh import refresher
from dynmm_framework.features.cache import FeatureCache
from dynmm_framework.features.encode import encode_items
from dynmm_framework.features.locate import locate_files
from dynmm_framework.protocols import AlignAdapter, Backbone, FloatArray

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dynmm_framework.engine.context import RunContext
    from dynmm_framework.engine.stages import Workbench

INPUTS: Mapping[str, str] = {"text": "text", "vision": "image", "audio": "audio"}
"""What an encoder of each modality reads; also the column of the item table."""
FEATURES_FOLDER = "features"
"""Folder of encoded items, beside the stages, shared by all runs."""


def encode(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Encodes one modality of all items."""
    loaded = bench.loaded
    name = stage.label.removeprefix("encoders/")
    ref = getattr(loaded.pipeline.encoders, name)
    items, ctx = bench.dataset.items, bench.context(stage, writer)
    files: list[str | None] = []
    if ref.media is not None:
        ids = items["id"].to_pylist()
        files = locate_files(ids, ref.media.pattern, folder=ref.media.folder)
    compute = loaded.pipeline.compute
    started = time.perf_counter()
    with blamed(loaded.components[stage.label], stage):
        encoded = encode_items(
            bench.component(stage.label),
            items,
            modality=INPUTS[name],
            cache=FeatureCache(bench.store.root / FEATURES_FOLDER),
            ctx=ctx,
            name=ref.name,
            identity=content_key(encoder_parts(loaded, stage.label, bench.surroundings.registry)),
            files=files,
            fields=getattr(ref, "fields", ()),
            engine=compute.engine,
            n_workers=compute.workers,
            address=compute.address,
        )
    encoded.save(writer.folder)
    return {"encode_seconds": time.perf_counter() - started, "device": bench.device, **ctx.records}


def align(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Trains the alignment on the finished backbone and the encoded items."""
    return _put_on(bench, stage, writer, bench.loaded.backbone_label)


def evidence(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Lets an extractor of evidence learn of the items, on what recommends them."""
    name = stage.label.removeprefix(f"{EVIDENCE}/")
    if bench.loaded.pipeline.extractors[name].refresh is not None:
        refresher(name, bench.component(stage.label))  # said before anything is learned
    return _put_on(bench, stage, writer, bench.loaded.retrieval_label)


def prompt(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Trains the prompt on what retrieves for it, and on evidence where there is any."""
    return _put_on(bench, stage, writer, bench.loaded.retrieval_label)


def _put_on(
    bench: Workbench, stage: PlannedStage, writer: StageWriter, under: str
) -> Mapping[str, Any]:
    """Trains an adapter, or an extractor, on the finished recommender that it stands on."""
    from dynmm_framework.evaluation.efficiency import PeakMemory

    base = bench.fitted(under, stage.model_seed)
    # Without an alignment or a prompt, a refitted backbone knows the validation targets already.
    validator = None if bench.refits else bench.validator
    ctx = bench.context(stage, writer, validator=validator)
    data = bench.training_data(stage.label)
    registered = bench.loaded.components[stage.label]
    source = bench.evidence(stage.label, stage.model_seed) if stage.kind == "prompt" else None
    started = time.perf_counter()

    def fitted(config: BaseModel, ctx: RunContext) -> Any:
        component = bench.component(stage.label, config)
        given = offered(component.fit, source)
        if source is not None and not given:
            ctx.log(f"{registered.name} takes no evidence and is trained without")
        component.fit(data, base, ctx, **given)
        return component

    with PeakMemory(bench.device) as peak, blamed(registered, stage):
        component = fit_in_legs(bench.loaded.configs[stage.label], ctx, fitted)
    seconds = time.perf_counter() - started
    metadata = {"component": registered.identity}
    save_arrays(writer.folder / STATE_FILE, component.get_state(), metadata=metadata)
    return {
        "fit_seconds": seconds,
        "peak_rss_bytes": peak.rss_bytes,
        "peak_gpu_bytes": peak.gpu_bytes,
        "device": bench.device,
        **ctx.records,
    }


def seen_features(
    features: Mapping[str, Features], control: Control | None, *, seed: int
) -> Mapping[str, Features]:
    """Returns the features as a control sees them; as they are without one.

    Args:
        features: Features by modality.
        control: The control, if the recommender is one.
        seed: The pipeline's seed.
    """
    if control != "shuffled_features":
        return features
    return {
        name: found.shuffled(spawn_rng(seed, f"controls/shuffled_features/{name}"))
        for name, found in features.items()
    }


@dataclass(frozen=True, eq=False)
class Aligned:
    """An alignment and what it stands on, as something that gives vectors like a backbone."""

    adapter: AlignAdapter

    @classmethod
    def attached(
        cls, adapter: AlignAdapter, features: Mapping[str, Features], backbone: Backbone
    ) -> Aligned:
        """Puts a restored adapter on its backbone and on features."""
        adapter.attach(features, backbone)
        return cls(adapter)

    def item_vectors(self) -> FloatArray:
        """Returns joint latents of all items, ``(n_items, d)``."""
        return self.adapter.item_latents()

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Returns joint latents of users, ``(len(histories), d)``."""
        return self.adapter.user_latents(histories)
