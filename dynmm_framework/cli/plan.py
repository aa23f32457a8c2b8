"""``dynmm plan``: what a run would compute, without computing or fetching anything."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dynmm_framework.cli.arguments import json_option, pipeline_argument, runs_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation


@click.command(
    cls=Command,
    examples=(
        "dynmm plan pipeline.yaml",
        "dynmm plan pipeline.yaml seed=2 --json",
    ),
)
@pipeline_argument
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    pipeline: str,
    overrides: tuple[str, ...],
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Shows what a run would compute.

    Lists the stages with their content keys and devices. A stage is cached if a result of the
    same key is in the folder of runs. Nothing is computed or fetched.
    """
    from dynmm_framework.config.load import load_pipeline
    from dynmm_framework.engine.plan import make_plan

    loaded = load_pipeline(pipeline, overrides=overrides, catalogue=invocation.catalogue)
    plan = make_plan(loaded, runs_dir=runs_dir)
    if as_json:
        invocation.json(
            {
                "name": plan.name,
                "run": plan.run_id,
                "notes": plan.notes,
                "stages": [asdict(stage) for stage in plan.stages],
            }
        )
        return
    from rich.text import Text

    invocation.table(
        ("stage", "state", "key", "device"),
        (
            [
                Text(cell, style="dim" if stage.cached else "")
                for cell in (
                    stage.name,
                    "cached" if stage.cached else "to run",
                    stage.key[:12] or "?",
                    f"{stage.workers} × {stage.device} (Ray)" if stage.workers else stage.device,
                )
            ]
            for stage in plan.stages
        ),
    )
    for stage in plan.stages:
        if stage.parts:
            invocation.line(f"{stage.name} stands on {', '.join(stage.parts)}")
    for note in plan.notes:
        invocation.note(f"Note: {note}")
    todo = sum(not stage.cached for stage in plan.stages)
    invocation.line(f"{todo} of {len(plan.stages)} stages to run, into {runs_dir / plan.run_id}")
