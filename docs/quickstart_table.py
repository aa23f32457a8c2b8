"""Writes the quickstart's table into README.md: ``python docs/quickstart_table.py RUN_FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from dynmm_framework.engine.results import Run

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- quickstart:begin -->", "<!-- quickstart:end -->"
METRICS = ("hit@10", "ndcg@5", "ndcg@10", "ndcg@20", "recall@10", "mrr")
NAMES = {
    "soft_prompt": "+ evidence and SmolLM2",
    "joint_alignment": "SASRec + texts, aligned",
    "sasrec": "SASRec",
    "popularity": "popularity",
    "item_knn": "item-kNN",
}
LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def table(run: Run) -> str:
    """Returns the run's metrics under full ranking as a Markdown table."""
    p_values = {
        (row["b"], row["metric"]): row["p_adjusted"]
        for row in run.metrics["comparisons"]
        if row["protocol"] == "full"
    }
    lines = ["| | " + " | ".join(METRICS) + " |", "|---|" + "---:|" * len(METRICS)]
    for label, protocols in run.metrics["recommenders"].items():
        cells = []
        for metric in METRICS:
            p = p_values.get((label, metric))
            stars = next((s for level, s in LEVELS if p is not None and p < level), "")
            cells.append(f"{protocols['full'][metric]['mean']:.4f}{stars}")
        lines.append(f"| {NAMES[label]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written() -> str:
    """Returns the table that README.md has now."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main(folder: str) -> None:
    """Replaces the table in README.md by that of a run."""
    head, _, rest = README.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    README.write_text(f"{head}{BEGIN}\n{table(Run.load(folder))}\n{END}{tail}")


if __name__ == "__main__":
    main(sys.argv[1])
