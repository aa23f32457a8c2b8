"""Start-up of the command line, side by side with an empty Python.

python benchmarks/startup.py [--repeats 21] [--json]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from measure import alternate, median, report, skip

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "dynmm --help": ["--help"],
    "dynmm --help, no plugins": ["--help"],
    "dynmm plugins list": ["plugins", "list"],
}


def milliseconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dynmm = Path(sys.executable).with_name("dynmm")
    if not dynmm.exists():
        skip(f"{dynmm} is not installed beside this Python")
    runs = {}
    for name, arguments in COMMANDS.items():
        program = sys.executable if name.startswith("python") else str(dynmm)
        plugins = {"DYNMM_PLUGINS": ""} if "no plugins" in name else {}
        environment = {**os.environ, **plugins}
        runs[name] = partial(milliseconds, [program, *arguments], environment)
    alternate(runs, 2)  # fills the file cache and writes byte code
    measured = alternate(runs, options.repeats)
    rows = [
        {
            "command": name,
            "median, ms": median([times[name] for times in measured]),
            "median ratio to python -c pass": median(
                [times[name] / times["python -c pass"] for times in measured]
            ),
        }
        for name in runs
    ]
    notes = [f"{options.repeats} runs each, in turn. Wanted: dynmm --help under 150 ms."]
    report("Start-up", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
