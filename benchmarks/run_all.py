r"""Runs the benchmarks and renews the tables of README.md.

    python benchmarks/run_all.py --peer-python /tmp/recbole/bin/python --peer-checkout /tmp/pmixer

The peers are made as ``recbole_peer.py`` and ``pmixer_peer.py`` say; without them, their
measurements are skipped and their tables stay. Each measurement is stored as it ends, and one that
is stored is not repeated: start again to go on, ``--again`` to measure anew, ``--only`` to choose
(``--only 'pmixer/*' startup``). ``--list`` names the measurements. ``--quick`` tries everything
with tiny settings and prints its tables instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tables import Table, render, rewrite

HERE = Path(__file__).parent
README = HERE / "README.md"
RESULTS = HERE / "results"
QUIET_SECONDS = 3.0
"""How long other work on the machine is watched before and after a measurement."""


@dataclass(frozen=True)
class Measurement:
    """One script with its arguments, whose systems are measured in turn.

    Attributes:
        name: Names its stored result; ``--only`` matches it.
        command: Script and arguments.
        quick: Further arguments for a trial.
        peer: Option that names the peer, if it needs one.
    """

    name: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    peer: str = ""


DATA = ("ml-100k", "amazon-beauty")
MEASUREMENTS = (
    Measurement("startup", ("startup.py",), ("--repeats", "2")),
    Measurement("reading", ("reading.py",), ("--repeats", "1")),
    Measurement("floors", ("floors.py",), ("--repeats", "1")),
    *(
        Measurement(
            f"pmixer/speed/{data}",
            ("pmixer_peer.py", "speed", "--data", data, "--repeats", "3"),
            ("--repeats", "1", "--epochs", "2"),
            peer="--peer-checkout",
        )
        for data in DATA
    ),
    Measurement(
        "pmixer/length",
        ("pmixer_peer.py", "length", "--repeats", "2"),
        ("--repeats", "1", "--epochs", "4"),
        peer="--peer-checkout",
    ),
    *(
        Measurement(
            f"pmixer/accuracy/{data}",
            ("pmixer_peer.py", "accuracy", "--data", data, "--repeats", seeds),
            ("--repeats", "1", "--seconds", "8"),
            peer="--peer-checkout",
        )
        for data, seeds in zip(DATA, ("3", "2"), strict=True)
    ),
    *(
        Measurement(
            f"recbole/{model}/{data}",
            ("recbole_peer.py", "--models", model, "--data", data, "--repeats", "3"),
            ("--repeats", "1"),
            peer="--peer-python",
        )
        for model in ("SASRec", "LightGCN")
        for data in DATA
    ),
    Measurement("cornac", ("bpr_cornac.py",), ("--seeds", "1")),
)


def named(pattern: str) -> tuple[str, ...]:
    return tuple(one.name for one in MEASUREMENTS if fnmatch(one.name, pattern))


TABLES = (
    Table("pmixer-speed", named("pmixer/speed/*"), grouped=1),
    Table("pmixer-accuracy", named("pmixer/accuracy/*"), grouped=2),
    Table("pmixer-length", named("pmixer/length")),
    Table("recbole", named("recbole/*"), grouped=2),
    Table("floors", named("floors")),
    Table("reading", named("reading")),
    Table("startup", named("startup")),
    Table("cornac", named("cornac")),
)


def busy_cores() -> float:
    """Returns how many cores are busy while nothing of ours runs; the load where unknown."""
    try:
        import psutil
    except ImportError:
        return os.getloadavg()[0]
    return psutil.cpu_percent(interval=QUIET_SECONDS) / 100 * (os.cpu_count() or 1)


def stored(folder: Path) -> dict[str, dict[str, Any]]:
    paths = {one.name: folder / f"{one.name}.json" for one in MEASUREMENTS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def run(one: Measurement, options: argparse.Namespace) -> tuple[dict[str, Any] | None, str]:
    """Runs one measurement; returns its result, or ``None`` and why there is none."""
    command = [sys.executable, str(HERE / one.command[0]), *one.command[1:], "--json"]
    if options.quick:
        command += one.quick  # the later of two equal options counts
    if one.peer:
        peer = getattr(options, one.peer.removeprefix("--").replace("-", "_"))
        if not peer:
            return None, f"skipped: {one.peer} was not given; {one.command[0]} says how to make it"
        command += [one.peer, str(peer)]
    before = busy_cores()
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        return None, f"FAILED:\n{done.stderr[-4000:]}"
    if not done.stdout.strip():
        return None, f"skipped: {done.stderr.partition('SKIPPED: ')[2].partition(chr(10))[0]}"
    result = {
        "document": json.loads(done.stdout),
        "cores": os.cpu_count(),
        "busy_cores": [before, busy_cores()],
        "seconds": seconds,
        "command": " ".join(one.command),
    }
    return result, f"{seconds:.0f} s, {before:.1f} cores busy before"


def store(path: Path, result: dict[str, Any]) -> None:
    """Writes through a second file, so that an interrupted run leaves no half results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_text(json.dumps(result, indent=1) + "\n")
    half.replace(path)


def chosen(options: argparse.Namespace) -> Iterator[Measurement]:
    for one in MEASUREMENTS:
        if not options.only or any(fnmatch(one.name, pattern) for pattern in options.only):
            yield one


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="Python of an environment with RecBole")
    parser.add_argument("--peer-checkout", help="folder of pmixer's repository")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these; may hold * and ?")
    parser.add_argument("--again", action="store_true", help="repeat stored measurements")
    parser.add_argument("--tables-only", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="tiny settings, README.md untouched")
    parser.add_argument("--list", action="store_true", help="name the measurements and stop")
    parser.add_argument("--results", type=Path, help="folder of the stored results")
    options = parser.parse_args()
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    have = stored(folder)
    if options.list:
        for one in chosen(options):
            print(f"{'stored ' if one.name in have else '       '} {one.name}")
        return 0
    failed = False
    for one in () if options.tables_only else chosen(options):
        if one.name in have and not options.again:
            print(f"{one.name}: stored", flush=True)
            continue
        print(f"{one.name}: ", end="", flush=True)
        result, outcome = run(one, options)
        print(outcome, flush=True)
        failed = failed or outcome.startswith("FAILED")
        if result is not None:
            store(folder / f"{one.name}.json", result)
    have = stored(folder)
    for table in TABLES:
        missing = [name for name in table.measurements if name not in have]
        if missing:
            print(f"table {table.name} stays as it is, not measured: {', '.join(missing)}")
        elif options.quick:
            print(f"\n{table.name}\n\n{render(table, have)}\n")
    if not options.quick:
        README.write_text(rewrite(README.read_text(), TABLES, have))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
