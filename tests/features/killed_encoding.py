"""Encodes in child processes that kill themselves at chosen points; run as a program.

``python killed_encoding.py FOLDER`` prints, as JSON, for every sequence of points: which children
were killed, and whether the features that came out in the end are those of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import safetensors.numpy  # noqa: F401
from toy_encoders import ListeningContext, ToyEncoder

from dynmm_framework.features.cache import FeatureCache
from dynmm_framework.features.encode import encode_items

N = 60
POINTS = [
    *[[f"encode:{number}"] for number in (1, 2, 4, 9, 20)],
    *[[f"before:{number}"] for number in (1, 2, 3, 8)],
    *[[f"after:{number}"] for number in (1, 2, 3, 8)],
    *[[f"half:{number}"] for number in (2, 5)],
    ["encode:4", "encode:2", "half:2", "before:1", "after:2", "encode:9"],
]
"""Where to die, run after run: at an encode call, or around a rename of the nth file."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def texts() -> pa.Table:
    rng = np.random.default_rng(0)
    words = ["-".join("xyz"[d] for d in rng.integers(0, 3, 1 + n % 17)) for n in range(N)]
    return pa.table({"id": [str(n) for n in range(N)], "text": [*words[:-2], "", words[0]]})


TEXTS = texts()  # and all that it imports, before the first fork


def encode(cache: Path, out: Path, point: str) -> None:
    kind, _, number = point.partition(":")
    left = int(number or 0)
    original = Path.replace

    class Mortal(ToyEncoder):
        def encode(self, batch):
            nonlocal left
            if kind == "encode":
                left -= 1
                if not left:
                    die()
            return super().encode(batch)

    def replace(path: Path, target: Path) -> Path:
        nonlocal left
        left -= kind in ("before", "after", "half")
        if not left and kind == "before":
            die()
        if not left and kind == "half":
            os.truncate(path, path.stat().st_size // 2)  # as if it was never flushed
            die()
        result = original(path, target)
        if not left and kind == "after":
            die()
        return result

    Path.replace = replace  # this process is a child of its own
    out.mkdir(exist_ok=True)
    encoded = encode_items(
        Mortal("text"),
        TEXTS,
        modality="text",
        cache=FeatureCache(cache),
        ctx=ListeningContext(),
        identity="toy",
        batch_size=3,
        workers=2,
        shard_size=8,
    )
    Path.replace = original
    encoded.save(out)


def in_a_child(cache: Path, out: Path, point: str = "") -> bool:
    """Returns whether the child was killed."""
    child = os.fork()
    if not child:
        try:
            encode(cache, out, point)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), status
    return status != 0


def main(folder: Path) -> None:
    in_a_child(folder / "whole", folder / "expected")
    expected = (folder / "expected" / "features.safetensors").read_bytes()
    results = []
    for number, points in enumerate(POINTS):
        cache, out = folder / f"cache-{number}", folder / f"out-{number}"
        killed = [in_a_child(cache, out, point) for point in points]
        finished = not in_a_child(cache, out)
        same = (out / "features.safetensors").read_bytes() == expected
        left = [path.name for path in cache.rglob("*.tmp*")]
        results.append(
            {"points": points, "killed": killed, "finished": finished, "same": same, "left": left}
        )
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
