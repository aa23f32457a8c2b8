"""``dynmm data media``: pictures and sounds from the web, before any training."""

from __future__ import annotations

from pathlib import Path

import click

from dynmm_framework.cli.arguments import json_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.guard import OK
from dynmm_framework.cli.invocation import Invocation

FOLDER = Path("media")


@click.command(
    "media",
    cls=Command,
    examples=(
        "dynmm data media pipeline.yaml --to posters",
        "dynmm data media amazon_reviews --path ~/data/giftcards --limit-mb 200",
    ),
)
@click.argument("source", metavar="NAME|PIPELINE.yaml")
@click.option("--path", metavar="PATH", help="Where the dataset is; as --set path=PATH.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the reader."
)
@click.option(
    "--modality",
    type=click.Choice(["vision", "audio"]),
    default="vision",
    show_default=True,
    help="What to download.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default=True,
    help="Folder of the files.",
)
@click.option(
    "--limit-mb",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Most megabytes in the folder.",
)
@click.option(
    "--limit-file-mb",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Most megabytes of one file.",
)
@click.option("--max-files", type=click.IntRange(min=1), help="Ask for at most so many files.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Files at the same time, at most 4 of one host.",
)
@click.option("--retry", is_flag=True, help="Ask again also for what failed for good.")
@json_option
@click.pass_obj
def media(
    invocation: Invocation,
    source: str,
    path: str | None,
    settings: tuple[str, ...],
    modality: str,
    folder: Path,
    limit_mb: int,
    limit_file_mb: int,
    max_files: int | None,
    workers: int,
    retry: bool,
    as_json: bool,
) -> int:
    """Downloads the pictures or sounds whose addresses a dataset has.

    Files are named after items, so that the media pattern 'FOLDER/{id}.*' finds them. The file
    media.jsonl in the folder says what became of every address; the same command goes on where
    it stopped.
    """
    from dynmm_framework.cli.data import find_source
    from dynmm_framework.data.filters import apply_filters
    from dynmm_framework.engine.content import INPUTS
    from dynmm_framework.engine.progress import Display
    from dynmm_framework.features.fetch import Limits, fetch_media, find_urls

    invocation.resumable = True
    column = INPUTS[modality]
    found = find_source(invocation, source, path, settings, False)
    dataset = found.reader.read(found.ctx)
    if found.filters is not None:
        dataset = apply_filters(dataset, found.filters)
    urls = find_urls(dataset.items, column)
    display = Display(None if invocation.quiet else invocation.err)
    with display.bar(f"download {modality}", len(urls)) as advance:
        state = fetch_media(
            urls,
            folder,
            modality=column,
            limits=Limits(
                total_bytes=limit_mb << 20,
                file_bytes=limit_file_mb << 20,
                files=max_files,
                workers=workers,
            ),
            retry_failed=retry,
            advance=advance,
        )
    counts = state.counts()
    pattern = str(folder / "{id}.*")
    if as_json:
        invocation.json(
            {
                "folder": str(folder),
                "pattern": pattern,
                "addresses": len(urls),
                "done": counts.get("done", 0),
                "new": state.fresh,
                "left_by_limits": state.left,
                "missing": {reason: n for reason, n in counts.items() if reason != "done"},
            }
        )
        return OK
    rows = [("done", f"{counts.pop('done', 0):,}"), *((r, f"{n:,}") for r, n in counts.items())]
    if state.left:
        rows.append(("left by a limit", f"{state.left:,}"))
    invocation.table((f"{len(urls):,} addresses", "items"), rows, right=(1,))
    invocation.line(f"\nmedia pattern: {pattern}")
    return OK
