"""``dynmm schema``: JSON schemas of what people write and what runs leave."""

from __future__ import annotations

import click

from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation


@click.command(
    cls=Command,
    examples=(
        "dynmm schema > dynmm.schema.json",
        "# then, as the first line of pipeline.yaml:",
        "# yaml-language-server: $schema=./dynmm.schema.json",
        "dynmm schema metrics > metrics.schema.json",
    ),
)
@click.argument(
    "document", type=click.Choice(["pipeline", "metrics", "manifest"]), default="pipeline"
)
@click.pass_obj
def command(invocation: Invocation, document: str) -> None:
    """Prints the JSON schema of pipelines.

    It describes this installation, the settings of every installed plugin included; editors
    complete and check pipelines with it. The other choices describe a run's metrics.json and
    manifest.json.
    """
    if document == "pipeline":
        from dynmm_framework.config.schema import json_schema

        invocation.json(json_schema(invocation.catalogue))
    elif document == "metrics":
        from dynmm_framework.engine.metrics import MetricsDocument

        invocation.json(MetricsDocument.model_json_schema())
    else:
        from dynmm_framework.artifacts.manifest import RunManifest

        invocation.json(RunManifest.model_json_schema())
