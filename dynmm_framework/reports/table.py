"""The metric tables of a run: their cells are made here, and drawn by terminal and page alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynmm_framework.reports.text import interval, metric_title, number, printable, stars

if TYPE_CHECKING:
    from rich.table import Table

CHANCE = "chance"
"""Label of the row that shows what a random ranking would reach."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table.

    Attributes:
        value: Mean over users, then over seeds; ``None`` if undefined.
        ci95: Its confidence interval.
        stars: Significance of the difference to the reference; empty in the reference's own row.
        best: Whether no other row is better.
        detail: All that is known of the number, for a tooltip.
    """

    value: float | None
    ci95: tuple[float, float] | None = None
    stars: str = ""
    best: bool = False
    detail: str = ""

    @property
    def text(self) -> str:
        return number(self.value)

    @property
    def interval(self) -> str:
        """The interval in small print, to three decimals."""
        return " … ".join(f"{bound:.3f}" for bound in self.ci95) if self.ci95 else ""


@dataclass(frozen=True, slots=True)
class Row:
    """A recommender's line, or that of a random ranking."""

    label: str
    cells: tuple[Cell, ...]
    is_reference: bool = False
    is_chance: bool = False


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All recommenders under one protocol.

    Attributes:
        protocol: ``full``, ``sampled:N`` or ``cold:N``.
        metrics: Names of the columns, such as ``ndcg@10``.
        rows: One for each recommender, the pipeline's own first; chance last where it is known.
        n_users: Number of users ranked, if it is known.
        reference: Label of the recommender to which the stars refer; empty if there are none.
        n_tests: How many recommenders were compared with it, at most, for one metric.
        corrected: Whether the p-values behind the stars are corrected for their number.
    """

    protocol: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    n_users: int | None = None
    reference: str = ""
    n_tests: int = 0
    corrected: bool = True

    @property
    def title(self) -> str:
        return f"{protocol_title(self.protocol)}" + (
            f", {self.n_users:,} user{'s' * (self.n_users != 1)}" if self.n_users else ""
        )

    @property
    def marks_best(self) -> bool:
        return any(cell.best for row in self.rows for cell in row.cells)

    @property
    def note(self) -> str:
        """What the stars mean, and why other tables of the same numbers may have others."""
        if not self.reference:
            return ""
        marks = "(* p < .05, ** p < .01, *** p < .001)"
        start = f"Stars: differs from {self.reference}, paired t-test over users"
        if not self.corrected:
            return f"{start}, not corrected for the number of comparisons {marks}."
        if self.n_tests < 2:
            return (
                f"{start} {marks}; a table that compares more recommenders corrects for their"
                " number and may have fewer stars."
            )
        return (
            f"{start}, Holm-corrected for the {self.n_tests} comparisons of each metric in this"
            f" table {marks}; a table of fewer or more recommenders may have other stars."
        )


def protocol_title(protocol: str) -> str:
    """Returns the rule behind a protocol's name in words."""
    if protocol == "full":
        return "Full ranking of the catalogue"
    kind, _, number = protocol.partition(":")
    if kind == "cold":
        few = "out" if number == "1" else f" fewer than {number}"
        return f"Ranking of the items with{few} training interactions"
    if kind == "auc":
        return f"Telling items rated above {number or '3'} from the others"
    return f"Ranking among {number} sampled negatives"


def metric_tables(metrics: Mapping[str, Any]) -> tuple[MetricTable, ...]:
    """Builds one table for each protocol.

    Args:
        metrics: Content of ``metrics.json``. No number of a metric family that its
            ``higher_is_better`` does not name is marked as best.
    """
    recommenders: Mapping[str, Any] = metrics["recommenders"]
    protocols = list(dict.fromkeys(name for by in recommenders.values() for name in by))
    return tuple(_table(metrics, protocol) for protocol in protocols)


def direction(metrics: Mapping[str, Any], name: str) -> bool | None:
    """Returns whether higher is better of a metric such as ``ndcg@10``; ``None`` if unknown."""
    known: Mapping[str, bool] = metrics.get("higher_is_better", {})
    return known.get(name.partition("@")[0])


def _table(metrics: Mapping[str, Any], protocol: str) -> MetricTable:
    by_label = {
        label: by[protocol] for label, by in metrics["recommenders"].items() if protocol in by
    }
    names = tuple(dict.fromkeys(name for values in by_label.values() for name in values))
    tests = {
        (test["metric"], test["b"]): test
        for test in metrics.get("comparisons", ())
        if test["protocol"] == protocol and test["a"] == next(iter(by_label))
    }
    reference = next(iter(by_label)) if tests else ""
    per_metric = Counter(metric for metric, _ in tests)
    best = {name: _best(by_label, name, direction(metrics, name)) for name in names}
    rows = [
        Row(
            label,
            tuple(
                _cell(values.get(name), tests.get((name, label)), label in best[name])
                for name in names
            ),
            is_reference=label == reference,
        )
        for label, values in by_label.items()
    ]
    if chance := metrics.get("chance", {}).get(protocol):
        rows.append(Row(CHANCE, tuple(Cell(chance.get(name)) for name in names), is_chance=True))
    return MetricTable(
        protocol=protocol,
        metrics=names,
        rows=tuple(rows),
        n_users=metrics.get("users", {}).get(protocol),
        reference=reference,
        n_tests=max(per_metric.values(), default=0),
        corrected=_corrected(tests.values()),
    )


def _corrected(tests: Iterable[Mapping[str, Any]]) -> bool:
    """Tells whether p-values are corrected: of several, Holm raises the smallest but 0 and 1."""
    by_metric: dict[str, list[tuple[float, float]]] = {}
    for test in tests:
        if test.get("p_t") is not None:
            by_metric.setdefault(test["metric"], []).append((test["p_t"], test["p_adjusted"]))
    smallest = (min(values) for values in by_metric.values() if len(values) > 1)
    return all(adjusted > raw for raw, adjusted in smallest if 0 < raw < 1)


def _best(by_label: Mapping[str, Any], name: str, higher_is_better: bool | None) -> set[str]:
    means = {
        label: values[name]["mean"]
        for label, values in by_label.items()
        if name in values and values[name]["mean"] is not None
    }
    if higher_is_better is None or len(means) < 2:
        return set()
    top = max(means.values()) if higher_is_better else min(means.values())
    return {label for label, mean in means.items() if mean == top}


def _cell(value: Mapping[str, Any] | None, test: Mapping[str, Any] | None, best: bool) -> Cell:
    if value is None:
        return Cell(None)
    bounds = value.get("ci95")
    details = []
    if bounds:
        details.append(f"95 % CI {interval(bounds)}")
    if len(value.get("per_seed") or {}) > 1:
        seeds = ", ".join(f"{seed}: {number(mean)}" for seed, mean in value["per_seed"].items())
        details.append(f"by seed {seeds}")
    mark = ""
    if test is not None:
        p = test.get("p_adjusted") if test.get("p_adjusted") is not None else test.get("p_t")
        mark = stars(p)
    return Cell(
        value=value["mean"],
        ci95=tuple(bounds) if bounds else None,
        stars=mark,
        best=best,
        detail="; ".join(details),
    )


def rich_table(table: MetricTable, *, width: int, intervals: bool = False) -> Table:
    """Draws a table for a terminal: recommenders as rows, or as columns where that is narrower.

    Args:
        table: What to draw.
        width: Columns of the terminal.
        intervals: Print confidence intervals below the numbers.
    """
    wide = _draw(table, intervals=intervals, transposed=False)
    if _needs(wide) <= width:
        return wide
    tall = _draw(table, intervals=intervals, transposed=True)
    return tall if _needs(tall) < _needs(wide) else wide


def _needs(table: Table) -> int:
    from rich.console import Console

    return Console(width=10_000).measure(table).maximum


def _draw(table: MetricTable, *, intervals: bool, transposed: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def cell(value: Cell, row: Row) -> Text:
        style = "dim" if row.is_chance else "bold" if value.best else ""
        # Stars are padded, so that the numbers of a column stay aligned.
        text = Text(f"{value.text}{value.stars:<3}", style=style)
        if intervals and value.ci95:
            text.append(f"\n{value.interval}", style="dim")
        return text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    heads: Sequence[Text] = [Text(metric_title(name)) for name in table.metrics]
    labels = [
        Text(printable(row.label), style="dim" if row.is_chance else "bold") for row in table.rows
    ]
    drawn.add_column("")
    if transposed:
        for label in labels:
            drawn.add_column(label, justify="right", overflow="fold")
        for column, head in enumerate(heads):
            drawn.add_row(head, *(cell(row.cells[column], row) for row in table.rows))
    else:
        for head in heads:
            drawn.add_column(head, justify="right", no_wrap=True)
        for label, row in zip(labels, table.rows, strict=True):
            drawn.add_row(label, *(cell(value, row) for value in row.cells))
    return drawn
