"""``dynmm artifact``: foreign checkpoints become files that hold tensors and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from dynmm_framework.cli.arguments import json_option
from dynmm_framework.cli.command import Group
from dynmm_framework.cli.invocation import Invocation


@click.group(cls=Group, examples=("dynmm artifact convert model.pth -o model.safetensors",))
def command() -> None:
    """Converts checkpoints to safetensors."""


@command.command(
    "convert",
    examples=(
        "dynmm artifact convert model.pth -o model.safetensors",
        "dynmm artifact convert trainer.ckpt -o model.safetensors --key state_dict",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write; by default FILE with the ending .safetensors.",
)
@click.option(
    "--key", default="", metavar="NAME", help="Entry that holds the weights, dotted if deeper."
)
@json_option
@click.pass_obj
def convert(
    invocation: Invocation, file: Path, output: Path | None, key: str, as_json: bool
) -> None:
    """Converts a PyTorch checkpoint to safetensors.

    Only tensors are taken; a checkpoint that would build other Python objects is refused, so that
    nothing in it is executed. Beside the output stands a JSON file with the names, types and shapes
    of the tensors in the checkpoint's own order.
    """
    from dynmm_framework.artifacts.convert import convert_checkpoint

    done = convert_checkpoint(file, output or file.with_suffix(".safetensors"), key=key)
    if as_json:
        invocation.json(
            {
                "file": done.path,
                "index": done.index,
                "tensors": len(done.tensors),
                "left_out": done.left_out,
            }
        )
        return
    size, n = done.path.stat().st_size, len(done.tensors)
    invocation.line(f"{done.path}: {n:,} tensor{'s' * (n != 1)}, {size:,} bytes")
    if done.left_out:
        invocation.line(f"left out, as no tensors: {', '.join(done.left_out)}")
