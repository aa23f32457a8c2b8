"""Numbers and foreign text as people read them."""

from __future__ import annotations

import math

import pytest

from dynmm_framework.reports.text import (
    as_yaml,
    duration,
    interval,
    metric_title,
    number,
    p_value,
    printable,
    size,
    stars,
)


@pytest.mark.parametrize(
    ("p", "mark"),
    [
        (0.2, ""),
        (0.05, ""),
        (0.049, "*"),
        (0.009, "**"),
        (0.0009, "***"),
        (None, ""),
        (math.nan, ""),
    ],
)
def test_stars(p, mark):
    assert stars(p) == mark


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.1235"), (12.5, "12.5000"), (1234.5, "1234"), (None, "–"), (math.nan, "–")],
)
def test_numbers(value, text):
    assert number(value) == text


def test_signs_and_intervals():
    assert number(0.01, signed=True) == "+0.0100"
    assert number(-0.01, signed=True) == "-0.0100"
    assert interval((0.1, 0.2)) == "0.1000 … 0.2000"
    assert interval(None) == interval((None, 0.1)) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500"), (0.0004, "4e-04"), (0.0, "<1e-300"), (None, "–")]
)
def test_p_values(value, text):
    assert p_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "420 ms"), (3.44, "3.4 s"), (125, "2 min 5 s"), (3840, "1 h 4 min"), (None, "–")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(512, "512 B"), (3_400_000, "3.4 MB"), (1.2e9, "1.2 GB"), (None, "–")]
)
def test_sizes(n, text):
    assert size(n) == text


@pytest.mark.parametrize(
    ("name", "title"),
    [("ndcg@10", "NDCG@10"), ("mrr", "MRR"), ("popularity_bias@5", "Popularity bias@5")],
)
def test_metrics_are_written_as_in_papers(name, title):
    assert metric_title(name) == title


def test_foreign_text_cannot_steer_a_terminal():
    assert printable("Amélie 東京 [red]") == "Amélie 東京 [red]"
    assert printable("a\x1b[31mb\x07\u202ec\nd") == "a�[31mb��c�d"


def test_yaml_keeps_order_and_short_lists_on_one_line():
    text = as_yaml({"version": 1, "data": {"name": "x", "ratios": [0.8, 0.2]}})
    assert text.startswith("version: 1\n")
    assert "ratios: [0.8, 0.2]" in text
