"""``dynmm schema``: the JSON schema of pipelines, for editors."""

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
    ),
)
@click.pass_obj
def command(invocation: Invocation) -> None:
    """Prints the JSON schema of pipelines.

    It describes this installation, the settings of every installed plugin included; editors
    complete and check pipelines with it.
    """
    from dynmm_framework.config.schema import json_schema

    invocation.json(json_schema(invocation.catalogue))
