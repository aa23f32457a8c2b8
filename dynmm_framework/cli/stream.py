"""``dynmm stream``: a run meets a stream, window by window."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dynmm_framework.cli.arguments import (
    find_run,
    json_option,
    run_argument,
    runs_option,
    seed_option,
)
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation
from dynmm_framework.errors import DataError

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run
    from dynmm_framework.online.reports import WindowReport
    from dynmm_framework.online.session import Session

CHECKPOINT_FILE = "stream.safetensors"
LINES = 256
"""Lines that are read at once from a file; from a pipe, one by one."""
LINE = '{"user": "42", "item": "50", "time": 1700000000}'
"""What a line looks like."""


@click.command(
    cls=Command,
    examples=(
        "dynmm stream movielens_stream",
        "dynmm stream movielens_stream --compare static,adapter,retrain",
        "dynmm stream movielens_stream --compare adapter --ablations",
        "# tail -n +1 -f events.jsonl | dynmm stream movielens_stream --from-file -",
        "dynmm stream movielens_stream --from-file events.jsonl --checkpoint-every 10 --resume",
    ),
)
@run_argument()
@click.option(
    "--from-file",
    "source",
    metavar="FILE",
    help="JSON lines with user, item and time, from a file, or from a pipe with -; by default the"
    " run's own stream.",
)
@click.option(
    "--compare",
    metavar="NAME,NAME,...",
    help="Strategies that meet the run's own stream, the first being the one of the table:"
    " adapter, static, static_prior, popularity_transitions, retrain and more.",
)
@click.option(
    "--ablations",
    is_flag=True,
    help="Let the adapter meet it without each of its parts in turn, and as printed, too.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    metavar="N",
    help="Store the state after every N windows.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"Where to; by default {CHECKPOINT_FILE} in the run's folder.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint at the next event.")
@click.option("--windows", type=click.IntRange(1), metavar="N", help="Stop after N windows.")
@seed_option
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_name: str,
    source: str | None,
    compare: str | None,
    ablations: bool,
    checkpoint_every: int | None,
    checkpoint: Path | None,
    resume: bool,
    windows: int | None,
    seed: int | None,
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Plays a stream to a run's online adapter.

    RUN is a run's folder, its id, or the beginning of its id. Every window is predicted before it
    is learned. A stream that was killed goes on
    with --resume: as many events as the checkpoint has taken in are left out of what is fed
    again, so none is lost and none counts twice. What is wrong with an event is counted and never
    stops the others.
    """
    if source is not None and (compare is not None or ablations):
        name = "--compare" if compare is not None else "--ablations"
        raise click.UsageError(f"{name} is for the run's own stream, without --from-file")
    run = find_run(run_name, runs_dir)
    path = checkpoint or run.folder / CHECKPOINT_FILE
    every = checkpoint_every or 0
    stop = windows or sys.maxsize
    if source is None:
        names = [name.strip() for name in (compare or "adapter,static").split(",") if name.strip()]
        names += _ablations(run) if ablations else ()
        told = _replay(invocation, run, names, path, every, resume, stop, seed, as_json)
    else:
        told = _outside(invocation, run, source, path, every, resume, stop, seed, as_json)
    if as_json:
        invocation.json(told)


def _ablations(run: Run) -> Iterable[str]:
    from dynmm_framework.engine.live import stream_settings

    return stream_settings(run).variants()


def _replay(
    invocation: Invocation,
    run: Run,
    names: Sequence[str],
    path: Path,
    every: int,
    resume: bool,
    stop: int,
    seed: int | None,
    as_json: bool,
) -> Mapping[str, Any]:
    """Plays the run's own stream."""
    from dynmm_framework.data.windows import stream_of
    from dynmm_framework.engine.live import replay_session
    from dynmm_framework.online.checkpoint import load_session, save_session

    session, split = replay_session(run, names, seed=seed)
    if resume and path.is_file():
        load_session(path, session, identity=run.id)
    _say_where(invocation, session.offset, path, resume=resume)
    events = stream_of(split.test)
    size = session.config.rule.events or 500
    done, begun = 0, len(session.reports)
    table = _Table(invocation, next(iter(session.strategies)), quiet=as_json)
    while session.offset < len(events) and done < stop:
        piece = events.take(slice(session.offset, session.offset + size))
        closed = list(session.push(piece))
        if session.offset == len(events):
            closed += session.flush()
        for report in closed:
            table.row(report)
            done += 1
        if every and closed and done // every > (done - len(closed)) // every:
            save_session(path, session, identity=run.id)
    if every:
        save_session(path, session, identity=run.id)
    invocation.note(f"{len(session.reports) - begun:,} windows; state {session.digest()[:16]}")
    if not as_json:
        _show_means(invocation, session.means)
        _show_retained(invocation, session)
    return _told(session)


def _outside(
    invocation: Invocation,
    run: Run,
    source: str,
    path: Path,
    every: int,
    resume: bool,
    stop: int,
    seed: int | None,
    as_json: bool,
) -> Mapping[str, Any]:
    """Learns from events of a file or a pipe."""
    from dynmm_framework.engine.live import live_recommender
    from dynmm_framework.online.intake import read_line

    recommender = live_recommender(run, seed=seed, checkpoint=path if resume else None)
    seen = recommender.offset
    _say_where(invocation, seen, path, resume=resume)
    table, done = _Table(invocation, "adapter", quiet=as_json), 0
    with _opened(source) as lines:
        _pass_over(lines, seen)
        for batch in _batches(lines, 1 if source == "-" else LINES):
            for report in recommender.update(map(read_line, batch)):
                table.row(report)
                done += 1
                if every and done % every == 0:
                    recommender.save(path, identity=run.id)
            if done >= stop:
                break
    if done < stop:
        for report in recommender.update([], flush=not every):
            table.row(report)
    if every:
        recommender.save(path, identity=run.id)
    skipped = {reason: count for reason, count in recommender.skipped.items() if count}
    if not as_json:
        words = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        invocation.line(f"{recommender.offset:,} events; skipped or late: {words or 'none'}")
        if recommender.pending:
            invocation.line(f"{recommender.pending:,} wait in the open window for what comes next")
        if recommender.offset and skipped.get("malformed") == recommender.offset:
            invocation.note(f"Nothing could be read. A line is {LINE}.")
        _show_means(invocation, {"adapter": recommender.means})
    return {
        "events": recommender.offset,
        "pending": recommender.pending,
        "skipped": skipped,
        "means": {"adapter": recommender.means},
        "state": recommender.digest(),
    }


def _say_where(invocation: Invocation, offset: int, path: Path, *, resume: bool) -> None:
    if offset:
        invocation.note(f"Goes on after {offset:,} events ({path}).")
    elif resume and not path.is_file():
        invocation.note(f"There is no checkpoint {path}: begins at the beginning.")


def _pass_over(lines: Iterable[str], seen: int) -> None:
    """Passes over what the checkpoint has taken in."""
    there = sum(1 for _ in islice(lines, seen))
    if there < seen:
        raise DataError(
            f"the source ends after {there:,} of the {seen:,} events that the checkpoint has"
            " taken in",
            hint="Feed the same events again from their beginning, or leave --resume out.",
        )


def _opened(source: str) -> TextIO:
    from dynmm_framework.artifacts.atomic import storage_errors

    if source == "-":
        return sys.stdin
    with storage_errors(source, action="read"):
        return Path(source).open(encoding="utf-8", errors="replace")


def _batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    lines = iter(lines)
    while batch := list(islice(lines, size)):
        yield batch


class _Table:
    """Prints one row a window, as they come."""

    def __init__(self, invocation: Invocation, name: str, *, quiet: bool) -> None:
        self.invocation, self.name = invocation, name
        self.quiet, self.begun = quiet or invocation.quiet, False

    def row(self, report: WindowReport) -> None:
        if self.quiet:
            return
        if not self.begun:
            head = (
                *("window", "events", "hit@10", "ndcg@10", "strength", "popularity"),
                *("predict", "update", ""),
            )
            self.invocation.line("  ".join(f"{word:>10}" for word in head).rstrip())
            self.begun = True
        values = report.metrics[self.name]
        served = report.served.get(self.name, {})
        cells = (
            f"{report.window:,}",
            f"{report.events:,}",
            f"{values['hit@10']:.4f}",
            f"{values['ndcg@10']:.4f}",
            *(f"{served[part]:g}" if part in served else "" for part in _GUARDED),
            f"{report.predict_ms:.0f} ms",
            f"{report.update_ms:.0f} ms",
            "drift" if report.drift else "",
        )
        self.invocation.line("  ".join(f"{cell:>10}" for cell in cells).rstrip())


_GUARDED = ("correction", "popularity")


def _show_means(invocation: Invocation, means: Mapping[str, Mapping[str, float]]) -> None:
    first: Mapping[str, float] = next(iter(means.values()), {})
    if not first:
        return
    rows = [
        (name, *(f"{values[metric]:.4f}" for metric in first)) for name, values in means.items()
    ]
    invocation.table(("strategy", *first), rows, right=range(1, len(first) + 1))


def _show_retained(invocation: Invocation, session: Session) -> None:
    away, present = session.retained()
    rows = [
        (
            name,
            f"{session.before[name].mean():.4f}",
            f"{now:.4f}",
            f"{session.before_as_present[name].mean():.4f}",
            f"{present[name]:.4f}",
            f"{session.cost[name]:.1f}",
        )
        for name, now in away.items()
    ]
    if rows:
        title = (
            f"NDCG@10 on {len(session.probe):,} events from before, of which nothing is learned:"
            " users met as not having come since, and as if they had just been there"
        )
        columns = ("strategy", "before", "now", "before, present", "now, present", "s of learning")
        invocation.table(columns, rows, right=range(1, 6), title=title)


def _told(session: Session) -> Mapping[str, Any]:
    away, present = session.retained()
    return {
        "events": session.offset,
        "skipped": {reason: count for reason, count in session.skipped.items() if count},
        "means": session.means,
        "retained": {
            name: {"before": float(session.before[name].mean()), "now": now}
            for name, now in away.items()
        },
        "retained_as_present": {
            name: {"before": float(session.before_as_present[name].mean()), "now": now}
            for name, now in present.items()
        },
        "seconds": session.cost,
        "windows": [
            {
                "window": r.window,
                "events": r.events,
                "metrics": r.metrics,
                "served": r.served,
                "drift": r.drift,
            }
            for r in session.reports
        ],
        "state": session.digest(),
    }


def show_stream(invocation: Invocation, results: Mapping[str, Any]) -> None:
    """Prints what a run's stream gave.

    Args:
        invocation: Where to.
        results: ``stream`` of ``metrics.json``.
    """
    from dynmm_framework.engine.prequential import stream_rows

    names = ("hit@10", "ndcg@5", "ndcg@10", "ndcg@20")
    columns = ("strategy", *names, "adapter over it", "p")
    rows = stream_rows(results, names)
    title = f"The stream: {results['events']:,} events in {results['windows']:,} windows"
    invocation.table(columns, rows, right=range(1, len(columns)), title=title)
    invocation.line("")
