"""Peak memory of training soft tokens through a frozen language model.

Each setting is measured in a process of its own: projectors and a head are trained by a few steps
of AdamW on batches of ``--batch`` prompts of ``--length`` tokens, a quarter of them soft, 20 of
which are scored. Wanted: under 6 GB for SmolLM2-135M at 8 × 256 tokens.

    python benchmarks/language_memory.py [--batch 8] [--length 256] [--steps 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from measure import report, skip, worker

SETTINGS: tuple[dict[str, Any], ...] = (
    {"dtype": "fp32", "checkpointing": False},
    {"dtype": "fp32", "checkpointing": True},
    {"dtype": "bf16", "checkpointing": False},
)
WIDTH, CANDIDATES = 64, 20
MB = 1e6


def measure(request: Mapping[str, Any]) -> dict[str, float]:
    """Trains in this process and returns what it took."""
    import time

    import psutil
    import torch
    from torch import nn

    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.config.parts import LanguageModelRef
    from dynmm_framework.engine.context import RunContext, Surroundings
    from dynmm_framework.errors import DynmmError
    from dynmm_framework.evaluation.efficiency import PeakMemory
    from dynmm_framework.language.soft import PromptBatch, inject

    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    settings = {name: request[name] for name in ("dtype", "checkpointing")}
    try:
        ctx = RunContext(Surroundings(load_catalogue()), stage="benchmark")
        llm = ctx.component(LanguageModelRef(name=request["model"], config=settings))
    except DynmmError as error:
        skip(f"{request['model']} cannot be loaded: {error}")
    batch, length = request["batch"], request["length"]
    ids = torch.randint(5, 1000, (batch, length))
    soft = length // 4
    places = torch.arange(0, 4 * soft, 4).expand(batch, -1)
    prompts = PromptBatch(ids, torch.ones_like(ids, dtype=torch.bool), {"items": places})
    at = places[:, -CANDIDATES:]
    projector = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, llm.hidden_size))
    head = nn.Linear(llm.hidden_size, 1)
    optimizer = torch.optim.AdamW([*projector.parameters(), *head.parameters()], lr=5e-4)
    loaded = psutil.Process().memory_info().rss
    started = time.process_time()
    with PeakMemory(interval=0.005) as peak:
        for _ in range(request["steps"]):
            vectors = projector(torch.randn(batch, soft, WIDTH))
            states = llm.forward(inject(llm, prompts, {"items": vectors}), at=at)
            scores = head(states.float())[..., 0]
            nn.functional.cross_entropy(scores, torch.zeros(batch, dtype=torch.long)).backward()
            optimizer.step()
            optimizer.zero_grad()
    seconds = time.process_time() - started
    return {
        "loaded": loaded / MB,
        "peak": peak.rss_bytes / MB,
        "seconds": seconds / request["steps"],
    }


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2_135m", help="a language model's name")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for settings in SETTINGS:
        request = {name: getattr(options, name) for name in ("model", "batch", "length", "steps")}
        found = worker(
            sys.executable, "language_memory.py", {**request, **settings}, threads=options.threads
        )
        rows.append(
            {
                "dtype": settings["dtype"],
                "checkpointing": "yes" if settings["checkpointing"] else "no",
                "model loaded, MB": found["loaded"],
                "peak of training, MB": found["peak"],
                "CPU seconds a step": found["seconds"],
            }
        )
    report(
        "Memory of training through a frozen language model",
        rows,
        notes=[
            f"{options.model}, {options.batch} prompts of {options.length} tokens, "
            f"{options.length // 4} of them soft; resident memory of the whole process, sampled "
            f"every 5 ms over {options.steps} steps; {options.threads} thread(s).",
        ],
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
