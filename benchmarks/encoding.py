"""Posters to vectors: decoding, preparing, encoding and caching against the bare forward pass.

python benchmarks/encoding.py [--items 96] [--repeats 3] [--threads 1] [--workers 2]
                              [--device cpu] [--json]

Both encode the same posters of MovieLens-1M in the same batches, in turn; the bare forward pass
starts from batches that are prepared and in memory. Without the registered EfficientNet-Lite1 a
small convolutional network with random weights takes its place, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measure import DATA, alternate, median, report, skip


class ToyNetwork:
    """A convolutional network of about the cost of EfficientNet-Lite1, with random weights."""

    modality = "image"
    dim = 256

    def load(self, ctx: Any) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for i, o, stride in ((3, 48, 2), (48, 96, 2), (96, 128, 2), (128, 256, 2), (256, 256, 2)):
            layers += [nn.Conv2d(i, o, 3, stride, 1), nn.ReLU()]
        self.device = ctx.device
        self.model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(ctx.device)

    def prepare(self, value: Any) -> Any:
        pixels = np.asarray(value.resize((240, 240)), np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels / 255)

    def encode(self, batch: Any) -> Any:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(batch)).to(self.device)
            return self.model(pixels).cpu().numpy()


def make_encoder(ctx: Any) -> tuple[str, Any]:
    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.errors import DynmmError

    catalogue = load_catalogue()
    try:
        encoder = catalogue.create(catalogue.find("encoder", "timm_image"), {})
        encoder.load(ctx)
        return "EfficientNet-Lite1 (timm_image)", encoder
    except (DynmmError, ImportError) as error:
        print(f"timm_image is not available: {str(error).splitlines()[0]}", file=sys.stderr)
        encoder = ToyNetwork()
        encoder.load(ctx)
        return "toy network, random weights", encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--posters", type=Path, default=DATA / "ml-1m" / "posters")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    files = sorted(options.posters.glob("*.jpg"))[: options.items]
    if not files:
        skip(f"{options.posters} has no posters; set DYNMM_DATA")

    # Before torch: the threads that decode would otherwise each bring a pool of their own.
    os.environ.update(OMP_NUM_THREADS=str(options.threads), OMP_WAIT_POLICY="PASSIVE")
    import torch

    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.engine.context import bare_context
    from dynmm_framework.features.cache import FeatureCache
    from dynmm_framework.features.encode import encode_items
    from dynmm_framework.features.media import load_image

    torch.set_num_threads(options.threads)
    ctx = replace(bare_context(load_catalogue()), device=options.device)
    name, encoder = make_encoder(ctx)
    items = pa.table({"id": [path.stem for path in files], "image": [str(p) for p in files]})

    started = time.perf_counter()
    prepared = [encoder.prepare(load_image(path)) for path in files]
    decoding = len(files) / (time.perf_counter() - started)
    encoder.encode(prepared[: options.batch_size])  # warms up
    encoder.load = lambda ctx: None  # it is loaded

    def forward() -> float:
        started = time.perf_counter()
        for start in range(0, len(prepared), options.batch_size):
            encoder.encode(prepared[start : start + options.batch_size])
        return len(files) / (time.perf_counter() - started)

    def whole() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            encoded = encode_items(
                encoder,
                items,
                modality="image",
                cache=FeatureCache(folder),
                ctx=ctx,
                identity="benchmark",
                batch_size=options.batch_size,
                workers=options.workers,
            )
            seconds = time.perf_counter() - started
        assert encoded.features.present.all()
        return len(files) / seconds

    measured = alternate({"forward": forward, "whole": whole}, options.repeats)
    rows = [
        {"work": "bare forward pass", "images/s": median([m["forward"] for m in measured]),
         "share of the forward pass": 1.0},
        {"work": "digest, decode, prepare, encode, store",
         "images/s": median([m["whole"] for m in measured]),
         "share of the forward pass": median([m["whole"] / m["forward"] for m in measured])},
    ]  # fmt: skip
    notes = [
        f"{name}, {options.device}, torch threads {options.threads}, decoding threads "
        f"{options.workers}, {len(files)} posters, {options.repeats} times in turn. "
        f"Decoding and preparing alone, one thread: {decoding:.0f} images/s. Wanted: .90."
    ]
    report("Encoding posters", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
