"""What the pages of the documentation show: blocks of code, by language, with their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SITE = sorted((ROOT / "docs").glob("*.md"))
"""Pages of the site."""
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *SITE,
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
]
"""All pages that people read."""
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands.
        line: Its first line in the page.
        language: As written behind the fence.
        text: What is in it.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def title(self) -> str:
        """A comment in the first line, which says what the block is; empty if there is none."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("#").strip() if first.startswith("#") else ""


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """Returns the blocks of a page in their order, those of some languages if any are given."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        if not languages or match[1] in languages:
            line = text.count("\n", 0, match.start(2)) + 1
            found.append(Block(page, line, match[1], match[2]))
    return found


def blocks(*languages: str) -> list[Block]:
    """Returns the blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page, *languages)]


def lines_of(block: Block) -> Iterator[str]:
    """Yields the commands of a block, those over several lines as one."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def write_events(path: Path) -> None:
    """Writes generated interactions in days of 60 users with the ids that the pages use."""
    import pyarrow as pa
    from pyarrow import csv

    from dynmm_framework.testing import generate_dataset

    rows = generate_dataset(n_users=60, n_items=200).interactions
    columns = {"user": rows.users, "item": rows.items, "timestamp": rows.timestamps}
    csv.write_csv(pa.table(columns), path)
