"""Runs a pipeline over a given split, as a script that can be killed; ``argv``: settings, folder.

Every epoch takes a moment longer than it would, so that a test can kill it in the middle.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.console import Console

from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.context import RunContext
from dynmm_framework.engine.run import run

if __name__ == "__main__":
    settings, folder, seconds = json.loads(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    finished = RunContext.epoch_finished

    def slowly(self, epoch, metrics):
        finished(self, epoch, metrics)
        time.sleep(seconds)

    RunContext.epoch_finished = slowly
    with (folder / "said.txt").open("a") as file:
        run(load_pipeline(settings), runs_dir=folder, console=Console(file=file, width=200))
