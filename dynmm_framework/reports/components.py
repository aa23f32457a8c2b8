"""What each component adds and what is lost without it (the paper's table 6), from finished runs.

Every recommender of the runs is some of four components on one backbone: content that is aligned
(``multimodal``), a language model behind retrieval, evidence that it reads, and adaptation to a
stream (``dynamic``). The stream asks other questions than rankings of a split do, so its numbers
stand in rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.comparison import paired_values, same_task, user_values
from dynmm_framework.reports.text import DASH, metric_title, number, p_value, stars

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run

Components = frozenset[str]
MULTIMODAL, LANGUAGE, EVIDENCE, DYNAMIC = "multimodal", "language model", "evidence", "dynamic"
SHUFFLED = "shuffled evidence"
"""A control's: evidence of other items."""
ORDER = (MULTIMODAL, LANGUAGE, EVIDENCE)
"""The order in which components are added."""


@dataclass(frozen=True)
class Variant:
    """A recommender of a run, by the components that it has.

    Attributes:
        run: The run.
        label: The recommender.
        components: What it has beside the backbone.
    """

    run: Run
    label: str
    components: Components


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        part: ``added`` one by one, ``removed`` from the whole, or a ``control`` of it.
        name: What is added or removed.
        recommender: Which recommender that is.
        values: Metrics; ``None`` where it has none.
        p: Of the paired test of the followed metric against the row before, or the whole;
            Holm-corrected over the table's tests.
        latency_ms: Median time to rank a user.
    """

    part: str
    name: str
    recommender: str
    values: Mapping[str, float | None]
    p: float | None
    latency_ms: float | None


@dataclass(frozen=True)
class ComponentTable:
    """The table of components.

    Attributes:
        protocol: Protocol of all numbers but those of the stream.
        metrics: Names of the columns.
        monitor: The metric that is tested.
        rows: The rows.
        notes: What is missing, and how to get it.
    """

    protocol: str
    metrics: tuple[str, ...]
    monitor: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yields the rows as they are read."""
        for row in self.rows:
            yield (
                row.part,
                row.name,
                *(number(row.values.get(name)) for name in self.metrics),
                f"{p_value(row.p)}{stars(row.p)}" if row.p is not None else DASH,
                DASH if row.latency_ms is None else f"{row.latency_ms:.2f}",
                row.recommender,
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Heads of the columns."""
        titles = map(metric_title, self.metrics)
        tested = f"p ({metric_title(self.monitor)}, Holm)"
        return ("", "variant", *titles, tested, "ms/user", "which is")


def component_table(
    runs: Sequence[Run], *, protocol: str | None = None, metrics: Sequence[str] = ()
) -> ComponentTable:
    """Arranges what components add, each tested over the users that both rows have.

    Args:
        runs: Runs on one split; the first one's own recommender is the whole.
        protocol: Which protocol; the first run's first one by default.
        metrics: Columns; Hit@10 and NDCG@10, or the followed metric, by default.

    Raises:
        ArtifactError: If the whole has no component, or there is no such protocol.
    """
    variants = [variant for run in runs for variant in variants_of(run)]
    whole = variants[0]
    found: Mapping[str, Any] = whole.run.metrics["recommenders"][whole.label]
    protocol = protocol or next(iter(found))
    if protocol not in found:
        raise ArtifactError(
            f"run {whole.run.id} has no protocol {protocol!r}",
            hint=f"It has: {', '.join(found)}.",
        )
    if not whole.components:
        raise ArtifactError(
            f"the recommender {whole.label} of run {whole.run.id} is a single model, without"
            " components to add or remove",
            hint="Name a run whose pipeline has align or prompt.",
        )
    monitor = str(whole.run.manifest.pipeline.get("evaluate", {}).get("monitor", "ndcg@10"))
    monitor = monitor if monitor in found[protocol] else next(iter(found[protocol]))
    chosen = tuple(metrics) or tuple(
        dict.fromkeys(m for m in ("hit@10", "ndcg@10", monitor) if m in found[protocol])
    )
    comparable = [v for v in variants if same_task(whole.run, v.run, protocol)]
    notes = [
        f"{run.id} was run on another split or other data than {whole.run.id} and is left out"
        for run in runs
        if not same_task(whole.run, run, protocol)
    ]
    table = _Table(comparable, protocol, chosen, monitor)
    rows = _corrected([*table.added(whole), *table.removed(whole), *table.controls(whole)])
    rows += _streamed(runs)
    notes += table.notes
    if not any(run.metrics.get("stream") for run in runs):
        notes.append("no row for the dynamic adapter: name a run whose pipeline has online, too")
    return ComponentTable(protocol, chosen, monitor, tuple(rows), tuple(notes))


def variants_of(run: Run) -> Iterator[Variant]:
    """Yields a run's recommenders that are made of components, its own first."""
    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    recommenders, roles = pipeline.recommenders, pipeline.roles
    content = {MULTIMODAL} if pipeline.align is not None else set()
    for label, role in roles.items():
        own = label == pipeline.own(role)
        if role == "fit" and own:
            yield Variant(run, label, frozenset())
        elif role == "align" and own:
            yield Variant(run, label, frozenset(content))
        elif role == "prompt":
            config = recommenders[label].config
            whole = recommenders[pipeline.own("prompt") or label].config
            differing = {k for k in {*config, *whole} if config.get(k) != whole.get(k)}
            reads = bool(pipeline.evidence) and config.get("evidence_tokens", 0) != 0
            if pipeline.control_of(label) == "shuffled_evidence":
                yield Variant(run, label, frozenset({*content, LANGUAGE, SHUFFLED}))
            elif own or differing == {"evidence_tokens"}:
                parts = {*content, LANGUAGE, *([EVIDENCE] if reads else [])}
                yield Variant(run, label, frozenset(parts))
            elif reads and differing == {"scorer"} and config["scorer"] == "direct":
                yield Variant(run, label, frozenset({*content, EVIDENCE}))


class _Table:
    """Looks variants up by their components."""

    def __init__(
        self, variants: Sequence[Variant], protocol: str, metrics: Sequence[str], monitor: str
    ) -> None:
        self.protocol, self.metrics, self.monitor = protocol, metrics, monitor
        self.known: dict[Components, Variant] = {}
        for variant in variants:
            self.known.setdefault(variant.components, variant)
        self.notes: list[str] = []

    def added(self, whole: Variant) -> Iterator[Row]:
        """Yields the backbone, and the whole as it grows component by component."""
        parts: Components = frozenset()
        before = self.known.get(parts)
        if before is not None:
            yield self._row("added", "backbone", before, None)
        for name in ORDER:
            if name not in whole.components:
                continue
            parts |= {name}
            variant = self.known.get(parts)
            if variant is None:
                self.notes.append(f"no recommender is the backbone with {_listed(parts)} alone")
                continue
            yield self._row("added", f"+ {name}", variant, before)
            before = variant

    def removed(self, whole: Variant) -> Iterator[Row]:
        """Yields the whole, and the whole without each component."""
        yield self._row("removed", "whole", whole, None)
        for name in ORDER:
            if name not in whole.components:
                continue
            lost = {name}
            if name == LANGUAGE and whole.components - lost not in self.known:
                # Without a variant that reads evidence by itself, it goes with what reads it.
                lost = {name, EVIDENCE}
            variant = self.known.get(whole.components - lost)
            if variant is None:
                how = (
                    "add ablation: [{name: without evidence, prompt: {config: {evidence_tokens:"
                    " 0}}}]"
                    if name == EVIDENCE
                    else "name a run without it, too"
                )
                self.notes.append(f"no recommender is the whole without {name}: {how}")
                continue
            yield self._row("removed", f"without {' and '.join(sorted(lost))}", variant, whole)

    def controls(self, whole: Variant) -> Iterator[Row]:
        """Yields the whole with evidence of other items."""
        variant = self.known.get((whole.components - {EVIDENCE}) | {SHUFFLED})
        if EVIDENCE in whole.components and variant is not None:
            yield self._row("control", "evidence of other items", variant, whole)

    def _row(self, part: str, name: str, variant: Variant, against: Variant | None) -> Row:
        metrics = variant.run.metrics
        values = metrics["recommenders"][variant.label].get(self.protocol, {})
        cost = metrics.get("efficiency", {}).get(variant.label, {})
        means = {m: values[m]["mean"] for m in self.metrics if m in values}
        p = None if against is None else self._p(variant, against)
        return Row(part, name, variant.label, means, p, cost.get("latency_ms_p50"))

    def _p(self, a: Variant, b: Variant) -> float | None:
        from dynmm_framework.evaluation.significance import compare

        pair = paired_values(
            user_values(a.run, a.label, self.protocol, self.monitor),
            user_values(b.run, b.label, self.protocol, self.monitor),
        )
        return None if pair is None else compare([pair[0]], [pair[1]]).t_p


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Returns rows with p-values corrected for the number of different tests (Holm).

    What was added last is also what can be removed: two rows of one test.
    """
    from dynmm_framework.evaluation.significance import holm

    raw = list(dict.fromkeys(row.p for row in rows if row.p is not None))
    corrected = dict(zip(raw, holm(raw), strict=True))
    return [row if row.p is None else replace(row, p=corrected[row.p]) for row in rows]


def _streamed(runs: Sequence[Run]) -> Iterator[Row]:
    """Yields the frozen base and the adapter on the stream of the first run that has one."""
    run = next((run for run in runs if run.metrics.get("stream")), None)
    if run is None:
        return
    results = run.metrics["stream"]
    own = next(iter(results["strategies"]))
    tests = {
        test["b"]: test["p_adjusted"]
        for test in results["comparisons"]
        if test["metric"] == "ndcg@10" and test["a"] == own
    }
    for name, label in (("static", "without it"), (own, "+ dynamic")):
        if name in results["strategies"]:
            values = {m: v["mean"] for m, v in results["strategies"][name].items()}
            p = tests.get("static") if name == own else None
            yield Row("stream", label, name, values, p, None)


def _listed(parts: Components) -> str:
    return " and ".join(name for name in ORDER if name in parts)
