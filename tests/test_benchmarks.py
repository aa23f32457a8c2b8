"""What the benchmarks write down, and how they go on after an interruption."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
MODULES = ("measure", "protocol", "tables", "run_all", "dynmm_worker", "pmixer_peer")


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[dict[str, Any]]:
    """The scripts' modules, which import each other by bare names."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


def result(rows: list[dict[str, Any]], *, busy: float = 0.0, note: str = "A note.") -> dict:
    return {"document": {"rows": rows, "notes": [note]}, "cores": 2, "busy_cores": [busy, busy]}


def test_a_table_shows_rows_notes_and_conditions(benchmarks):
    tables = benchmarks["tables"]
    results = {
        "one": result([{"data": "a", "system": "x", "speed": 1234.5}], busy=0.1),
        "two": result([{"data": "a", "system": "y", "speed": 0.25}], busy=0.4),
    }
    table = tables.Table("both", ("one", "two"), grouped=1)
    assert tables.render(table, results).splitlines() == [
        "| data | system | speed |",
        "|---|---|---:|",
        "| a | x | 1,234 |",
        "|  | y | 0.2500 |",
        "",
        "A note.",
        "",
        "2 cores, 0.1 to 0.4 of them busy with other work.",
    ]


def test_a_page_keeps_prose_and_tables_without_all_results(benchmarks):
    tables = benchmarks["tables"]
    page = "before\n<!-- table: a -->\nold\n<!-- end -->\n<!-- table: b -->\nold b\n<!-- end -->\n"
    wanted = [tables.Table("a", ("one",)), tables.Table("b", ("one", "missing"))]
    renewed = tables.rewrite(page, wanted, {"one": result([{"n": 1}])})
    assert renewed.startswith("before\n<!-- table: a -->\n| n |\n|---:|\n| 1 |\n")
    assert renewed.endswith("<!-- table: b -->\nold b\n<!-- end -->\n")
    assert tables.rewrite(renewed, wanted, {"one": result([{"n": 1}])}) == renewed


def test_a_page_without_a_table_s_comments_is_refused(benchmarks):
    tables = benchmarks["tables"]
    with pytest.raises(ValueError, match=r"README\.md has 0 tables 'a'; 1 is needed"):
        tables.rewrite("prose", [tables.Table("a", ("one",))], {"one": result([{"n": 1}])})


def test_every_measurement_has_its_place_in_the_page(benchmarks):
    run_all = benchmarks["run_all"]
    page = (FOLDER / "README.md").read_text()
    shown = [name for table in run_all.TABLES for name in table.measurements]
    assert sorted(shown) == sorted(one.name for one in run_all.MEASUREMENTS)
    for table in run_all.TABLES:
        assert page.count(f"<!-- table: {table.name} -->") == 1
    assert all((FOLDER / one.command[0]).is_file() for one in run_all.MEASUREMENTS)


def test_stored_measurements_are_not_repeated(benchmarks, monkeypatch, tmp_path, capsys):
    run_all = benchmarks["run_all"]
    script = tmp_path / "script.py"
    script.write_text('print(\'{"rows": [{"n": 1}], "notes": []}\')')
    peerless = run_all.Measurement("peer", (str(script),), (), peer="--peer-checkout")
    monkeypatch.setattr(
        run_all, "MEASUREMENTS", (run_all.Measurement("own", (str(script),), ()), peerless)
    )
    monkeypatch.setattr(run_all, "TABLES", (run_all.Table("own", ("own",)),))
    monkeypatch.setattr(run_all, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(run_all, "README", tmp_path / "README.md")
    run_all.README.write_text("<!-- table: own --><!-- end -->")
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--results", str(tmp_path / "results")])
    assert run_all.main() == 0
    assert "peer: skipped: --peer-checkout was not given" in capsys.readouterr().out
    assert json.loads((tmp_path / "results/own.json").read_text())["document"]["rows"] == [{"n": 1}]
    assert "| 1 |" in run_all.README.read_text()
    script.write_text("raise SystemExit('broken')")
    assert run_all.main() == 0
    assert "own: stored" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--again", "--only", "o*"])
    assert run_all.main() == 1
    assert "own: FAILED:\nbroken" in capsys.readouterr().out


def test_the_clock_judges_at_each_moment_and_then_ends(benchmarks, monkeypatch):
    protocol = benchmarks["protocol"]
    now = 0.0
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: now)

    def judge(component: object, evaluation: object) -> tuple[dict[str, float], float]:
        nonlocal now
        now += 100  # judging takes no training time
        return {"hit@10": 0.5}, 100.0

    monkeypatch.setattr(protocol, "full_ranking", judge)
    clock = protocol.Clock([10, 20], None)
    now = 9.0
    clock.check(None, epochs=1)
    assert clock.found == []
    clock.check(None, epochs=1, ahead=2)
    now += 12
    with pytest.raises(protocol.TimeIsUp):
        clock.check(None, epochs=2)
    assert [(one["moment"], one["seconds"], one["epochs"]) for one in clock.found] == [
        (10, 9.0, 1),
        (20, 21.0, 2),
    ]


def test_padding_is_no_target(benchmarks, small_split):
    count = benchmarks["dynmm_worker"].targets_in_epoch
    lengths = small_split.train.histories().lengths
    newest = {"max_length": 3}
    assert count("sasrec", small_split.train, newest) == np.minimum(lengths - 1, 3).sum()
    everything = {"max_length": 3, "windows": "all"}
    assert count("sasrec", small_split.train, everything) == (lengths - 1).sum()
    assert count("lightgcn", small_split.train, {}) == len(small_split.train)


def test_the_peer_reads_our_users_in_order(benchmarks, small_split, tmp_path):
    write = benchmarks["pmixer_peer"].write_sequences
    write(small_split, tmp_path / "data" / "all.txt")
    rows = np.loadtxt(tmp_path / "data" / "all.txt", dtype=np.int64)
    np.testing.assert_array_equal(rows[:, 0], small_split.rows.users + 1)
    np.testing.assert_array_equal(rows[:, 1], small_split.rows.items + 1)
    write(small_split, tmp_path / "data" / "two.txt", np.array([3, 5]))
    rows = np.loadtxt(tmp_path / "data" / "two.txt", dtype=np.int64)
    assert set(rows[:, 0]) == {1, 2}
    mine = small_split.rows.items[small_split.rows.users == 5]
    np.testing.assert_array_equal(rows[rows[:, 0] == 2, 1], mine + 1)


@pytest.fixture
def small_split() -> Any:
    from dynmm_framework.config.pipeline import LeaveOneOut
    from dynmm_framework.data.splits import make_split
    from dynmm_framework.testing import generate_dataset

    dataset = generate_dataset(n_users=20, n_items=40)
    return make_split(dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)
