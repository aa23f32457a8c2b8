"""Every number of the registry, run again (docs/reference-numbers.md).

``pytest -m slow tests/slow/test_reference_numbers.py -k popularity`` runs one of them. Runs are
kept in the folder that ``DYNMM_RUNS`` names, if it does, so that an interrupted one goes on.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.run import run
from dynmm_framework.verification import find_claims, verify
from dynmm_registry.plugin import dynmm_register_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6 * 3600)]
REGISTRY = Registry.load(dynmm_register_records())
PIPELINES = list(dict.fromkeys(claim.number.pipeline for claim in find_claims(REGISTRY)))

POPULARITY_BEAUTY = {"hit@10": 0.0152, "ndcg@10": 0.0068}
TOLERANCE = 0.05


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_numbers_of_a_pipeline_are_met(real_data, tmp_path, pipeline):
    runs = Path(os.environ.get("DYNMM_RUNS") or tmp_path)
    (found,) = verify(f"pipeline/{pipeline}", runs_dir=runs, data=real_data)
    missed = {
        (verdict.recommender, verdict.claim.number.protocol, verdict.claim.number.metric): (
            verdict.claim.number.value,
            verdict.ours,
        )
        for verdict in found.verdicts
        if verdict.status == "missed"
    }
    assert missed == {}


def test_popularity_meets_its_published_numbers_once_the_targets_are_counted_too(
    real_data, tmp_path
):
    """The published figures count every interaction, the test targets among them.

    With a training file that holds the targets the figures come out; with training interactions
    alone, as in any honest comparison, popularity is weaker (the pipeline popularity_beauty).
    """
    path = real_data / "amazon-beauty" / "Beauty.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    test = tmp_path / "test.txt"
    test.write_text("".join(f"{line[0]} {line[-1]}\n" for line in lines))
    loaded = load_pipeline(
        {
            "version": 1,
            "data": {"name": "sequence_file", "config": {"path": str(path)}},
            "split": {"strategy": "given", "train": str(path), "test": str(test), "valid_share": 0},
            "baseline": "popularity",
        }
    )
    ours = run(loaded, runs_dir=tmp_path).metrics["recommenders"]["popularity"]["full"]
    for metric, published in POPULARITY_BEAUTY.items():
        assert ours[metric]["mean"] == pytest.approx(published, rel=TOLERANCE)
