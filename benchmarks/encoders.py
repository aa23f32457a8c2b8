"""Throughput of our encoders against the bare forward pass of their models, in one run.

Text: all-MiniLM-L6-v2 on titles and plots of MovieLens-1M; images: EfficientNet-Lite1 on its
posters; audio: Wav2Vec2-Base with random weights (speed only) on generated clips of five seconds.
"Bare" is the model alone on inputs that are tokenised, decoded and batched already; "encode" is
what the encoder does on prepared inputs, "all" with prepare. Bare and ours take turns.

    python benchmarks/encoders.py [--items 256] [--rounds 3] [--threads 1] [--bf16] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from measure import DATA, report, skip

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.engine.context import bare_context
from dynmm_framework.features.media import Sound, load_image

CATALOGUE = load_catalogue()
BATCH = 32


def encoder(name: str, **settings: Any) -> Any:
    made = CATALOGUE.create(CATALOGUE.find("encoder", name), settings)
    made.load(bare_context(CATALOGUE))
    return made


def batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]


def text(n: int, bf16: bool) -> tuple[Any, list[Any], Callable[[], None]]:
    plots = json.loads((DATA / "ml-1m" / "dbpedia_abstracts.json").read_text())
    texts = sorted((str(plot) for plot in plots.values()), key=len, reverse=True)
    texts = texts[:: max(1, len(texts) // n)][:n]
    made = encoder("sentence_text", bf16=bf16)
    model = made._model
    tokens = [model.preprocess(list(batch)) for batch in batches(texts)]

    def bare() -> None:
        for batch in tokens:
            model.forward(dict(batch))

    return made, texts, bare


def image(n: int, bf16: bool) -> tuple[Any, list[Any], Callable[[], None]]:
    paths = sorted((DATA / "ml-1m" / "posters").glob("*.jpg"))[:n]
    pictures = [load_image(path) for path in paths]
    made = encoder("timm_image")
    prepared = [made.prepare(picture) for picture in pictures]
    order = torch.channels_last  # as the encoder has it; the usual order is slower
    tensors = [torch.from_numpy(np.stack(batch)) for batch in batches(prepared)]
    tensors = [tensor.contiguous(memory_format=order) for tensor in tensors]

    def bare() -> None:
        for batch in tensors:
            made._model(batch)

    return made, pictures, bare


def audio(n: int, bf16: bool) -> tuple[Any, list[Any], Callable[[], None]]:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    rng = np.random.default_rng(0)
    clips = [Sound(rng.normal(size=(2, 5 * 44_100)).astype(np.float32), 44_100) for _ in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder)
        made = encoder("wav2vec2", model=folder)
    prepared = [made.prepare(clip) for clip in clips]
    tensors = [torch.from_numpy(np.stack(batch)) for batch in batches(prepared)]

    def bare() -> None:
        for batch in tensors:
            made._network.module(batch)

    return made, clips, bare


def clocked(work: Callable[[], Any]) -> float:
    """Seconds of one thread's processor, which other processes do not disturb; else of the wall."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    with torch.inference_mode():
        work()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="texts in bfloat16")
    parser.add_argument("--only", choices=["text", "image", "audio"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tokens are ours to make, in this thread
    if not (DATA / "ml-1m").is_dir():
        skip(f"{DATA / 'ml-1m'} is not here; set DYNMM_DATA")
    rows = []
    for kind, make in {"text": text, "image": image, "audio": audio}.items():
        if options.only not in (None, kind):
            continue
        n = options.clips if kind == "audio" else options.items
        made, values, bare = make(n, options.bf16)
        prepared = [made.prepare(value) for value in values]

        def ours(made: Any = made, prepared: Any = prepared) -> None:
            for batch in batches(prepared):
                made.encode(batch)

        def prepare(made: Any = made, values: Any = values) -> None:
            for value in values:
                made.prepare(value)

        bare(), made.encode(prepared[:BATCH])  # both are warm
        times = [(clocked(bare), clocked(ours), clocked(prepare)) for _ in range(options.rounds)]
        best_bare, best_ours, best_prepare = (min(column) for column in zip(*times, strict=True))
        ratios = sorted(one / other for one, other, _ in times)
        rows.append(
            {
                "encoder": f"{kind} ({type(made).__name__})",
                "items": len(values),
                "bare, items/s": round(len(values) / best_bare, 2),
                "encode, items/s": round(len(values) / best_ours, 2),
                "encode / bare": round(ratios[len(ratios) // 2], 3),
                "prepare, items/s": round(len(values) / best_prepare, 1),
            }
        )
    notes = [
        f"{options.threads} thread(s), fp32{' (texts bf16)' if options.bf16 else ''}, batches of "
        f"{BATCH}; items/s of the best of {options.rounds} rounds, median of the ratios; processor "
        "time with one thread",
        "prepare runs in other threads while a batch is encoded",
    ]
    report("Encoders against the bare forward pass", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
