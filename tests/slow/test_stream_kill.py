"""A stream that is killed, as the system kills: at any moment, without a word."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynmm_framework.testing import generate_dataset

pytestmark = pytest.mark.slow

PIPELINE = """
version: 1
data: {{name: saved_dataset, config: {{path: "{data}"}}}}
split: {{strategy: streaming}}
backbone: {{name: bpr_mf, config: {{epochs: 2, dim: 8}}}}
online:
  name: gated_mlp
  config: {{window: 40, steps: 3, hidden: 8, replay: 20}}
  controls: false
  baselines: false
evaluate: {{at: [10]}}
compute: {{device: cpu, threads: 1}}
"""


def command(*words: str) -> list[str]:
    start = "from dynmm_framework.cli.app import main; main()"
    return [sys.executable, "-c", start, *words]


def test_kill_9_and_resume_give_the_state_of_an_undisturbed_stream(tmp_path: Path):
    generate_dataset(n_users=80, n_items=48).save(tmp_path / "data")
    (tmp_path / "small.yaml").write_text(PIPELINE.format(data=tmp_path / "data"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = command("run", str(tmp_path / "small.yaml"), "--runs", str(tmp_path))
    subprocess.run(run, check=True, capture_output=True, env=environment)
    events = tmp_path / "events.jsonl"
    with events.open("w") as file:
        for n in range(1500):
            line = {"user": f"n{n % 37}", "item": f"i{n * 7 % 50}", "time": 2_000_000_000 + n}
            file.write(json.dumps(line) + "\n")

    def stream(name: str, *more: str) -> list[str]:
        words = ("stream", "small", "--runs", str(tmp_path), "--from-file", str(events))
        kept = ("--checkpoint", str(tmp_path / name), "--checkpoint-every", "1", "--json")
        return command(*words, *kept, *more)

    def finished(name: str, *more: str) -> dict[str, object]:
        done = subprocess.run(
            stream(name, *more), check=True, capture_output=True, text=True, env=environment
        )
        return json.loads(done.stdout)

    whole = finished("whole.safetensors")
    rng = random.Random(0)
    for kill in range(3):
        process = subprocess.Popen(
            stream("killed.safetensors", "--resume"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        written = (tmp_path / "killed.safetensors").stat().st_mtime_ns if kill else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            path = tmp_path / "killed.safetensors"
            if path.is_file() and path.stat().st_mtime_ns != written:
                break
            time.sleep(0.01)
        time.sleep(rng.random() * 0.1)
        process.kill()
        process.wait()
    assert finished("killed.safetensors", "--resume") == whole
