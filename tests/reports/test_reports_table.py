"""The metric table that terminal and page share."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dynmm_framework.reports.table import metric_tables, protocol_title, rich_table


def value(mean: float | None) -> dict:
    return {"mean": mean, "ci95": None, "per_seed": {"1": mean, "2": mean}}


def document(**more) -> dict:
    return {
        "recommenders": {
            "ours": {"full": {"ndcg@10": value(0.5), "gini@10": value(0.2)}},
            "other": {"full": {"ndcg@10": value(0.4), "gini@10": value(0.3)}},
            "odd": {"full": {"ndcg@10": value(None)}},
        },
        "comparisons": [
            {
                "protocol": "full", "metric": "ndcg@10", "a": "ours", "b": "other",
                "p_adjusted": 0.002, "p_t": 0.001,
            },
            {
                "protocol": "full", "metric": "gini@10", "a": "ours", "b": "other",
                "p_adjusted": None, "p_t": 0.04,
            },
        ],
        "users": {"full": 1234},
        **more,
    }  # fmt: skip


def drawn(table, width: int, **settings) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(rich_table(table, width=width, **settings))
    return console.file.getvalue()


def test_stars_stand_beside_what_is_compared_with_the_reference():
    (table,) = metric_tables(document())
    assert table.reference == "ours"
    assert [[cell.stars for cell in row.cells] for row in table.rows] == [
        ["", ""],
        ["**", "*"],
        ["", ""],
    ]
    assert [row.is_reference for row in table.rows] == [True, False, False]
    assert table.title == "Full ranking of the catalogue, 1,234 users"
    assert replace(table, n_users=1).title == "Full ranking of the catalogue, 1 user"
    assert table.note.startswith("Stars: differs from ours")


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_p_values_that_holm_cannot_raise_do_not_make_the_note_say_uncorrected(p):
    names = ("a", "b")
    metrics = {
        "recommenders": {name: {"full": {"mrr": value(0.5)}} for name in ("ours", *names)},
        "comparisons": [
            {"protocol": "full", "metric": "mrr", "a": "ours", "b": b, "p_t": p, "p_adjusted": p}
            for b in names
        ],
    }
    (table,) = metric_tables(metrics)
    assert "Holm-corrected for the 2 comparisons" in table.note


@pytest.mark.parametrize(
    ("adjusted", "text"),
    [
        ({"a": 0.01}, "users (* p < .05, ** p < .01, *** p < .001); a table that compares more"),
        (
            {"a": 0.02, "b": 0.02},
            "users, Holm-corrected for the 2 comparisons of each metric in this table (* p < .05, "
            "** p < .01, *** p < .001); a table of fewer or more recommenders may have other stars",
        ),
        ({"a": 0.01, "b": 0.02}, "users, not corrected for the number of comparisons (* p < .05"),
    ],
)
def test_the_note_tells_over_what_stars_are_corrected(adjusted, text):
    raw = {"a": 0.01, "b": 0.02}
    metrics = {
        "recommenders": {name: {"full": {"ndcg@10": value(0.5)}} for name in ("ours", *adjusted)},
        "comparisons": [
            {
                "protocol": "full", "metric": "ndcg@10", "a": "ours", "b": name,
                "p_t": raw[name], "p_adjusted": p,
            }
            for name, p in adjusted.items()
        ],
    }  # fmt: skip
    (table,) = metric_tables(metrics)
    assert text in table.note


def test_the_best_follows_the_declared_direction_and_is_never_guessed():
    (table,) = metric_tables(document(higher_is_better={"ndcg": True, "gini": False}))
    assert [[cell.best for cell in row.cells] for row in table.rows[:2]] == [
        [True, True],
        [False, False],
    ]
    (table,) = metric_tables(document(higher_is_better={"ndcg": True}))
    assert [cell.best for cell in table.rows[0].cells] == [True, False]
    (table,) = metric_tables(document())
    assert not table.marks_best


def test_an_undefined_number_is_a_dash_and_seeds_are_told():
    (table,) = metric_tables(document())
    assert [cell.text for cell in table.rows[2].cells] == ["–", "–"]
    assert table.rows[0].cells[0].detail == "by seed 1: 0.5000, 2: 0.5000"


def test_chance_is_the_last_row_of_sampled_protocols():
    metrics = document(chance={"full": {"ndcg@10": 0.045}})
    (table,) = metric_tables(metrics)
    assert [row.is_chance for row in table.rows] == [False, False, False, True]
    assert [cell.text for cell in table.rows[-1].cells] == ["0.0450", "–"]


def test_one_recommender_alone_has_no_stars_and_no_best():
    metrics = {
        "recommenders": {"ours": {"sampled:9": {"hit@1": value(0.3)}}},
        "higher_is_better": {"hit": True},
    }
    (table,) = metric_tables(metrics)
    assert table.note == ""
    assert not table.marks_best
    assert table.title == "Ranking among 9 sampled negatives"


@pytest.mark.parametrize(
    ("protocol", "title"),
    [
        ("full", "Full ranking of the catalogue"),
        ("cold:1", "Ranking of the items without training interactions"),
        ("cold:5", "Ranking of the items with fewer than 5 training interactions"),
        ("sampled:9", "Ranking among 9 sampled negatives"),
    ],
)
def test_a_protocol_is_said_in_words(protocol, title):
    assert protocol_title(protocol) == title


@pytest.mark.parametrize("width", [200, 60])
def test_a_narrow_terminal_gets_recommenders_as_columns(width):
    metrics = document()
    for label in ("ours", "other"):
        values = metrics["recommenders"][label]["full"]
        values.update({f"hit@{k}": value(0.4) for k in range(1, 9)})
    (table,) = metric_tables(metrics)
    text = drawn(table, width)
    head = text.splitlines()[0]
    assert ("NDCG@10" in head) == (width == 200)
    assert ("ours" in head) == (width == 60)
    assert "0.4000**" in text
    assert max(map(len, text.splitlines())) <= width


def test_intervals_are_drawn_on_request_and_markup_is_text():
    metrics = document()
    metrics["recommenders"]["[red]x\x1b"] = {
        "full": {"ndcg@10": {"mean": 0.1, "ci95": [0.05, 0.15], "per_seed": {"1": 0.1}}}
    }
    (table,) = metric_tables(metrics)
    assert "0.050 … 0.150" not in drawn(table, 200)
    text = drawn(table, 200, intervals=True)
    assert "0.050 … 0.150" in text
    assert "[red]x�" in text
