"""The stage that explains, what a run keeps of it, and explanations of a finished run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dynmm_framework import ComponentSpec, hookimpl, load_pipeline
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.blocks import Block
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ArtifactError, ConfigError, DataError
from dynmm_framework.explain.explanations import (
    cited_things,
    read_explanations,
    stored_case,
)
from dynmm_framework.explain.source import EvidenceSource
from dynmm_framework.reports.explanations import cards
from dynmm_framework.reports.page import render
from dynmm_framework.testing import generate_dataset

ROOT = Path(__file__).parents[2]


TREND = {"name": "trend", "config": {"days": 3650, "top": 1.0}}


class PromptConfig(Block):
    """No settings."""


class Reading:
    """Scores as what it stands on does, and adds a point for each record of evidence."""

    def __init__(self, config: PromptConfig) -> None:
        self.source: EvidenceSource | None = None
        self.base: Any = None

    def fit(self, data: Any, base: Any, ctx: Any, *, evidence: Any = None) -> None:
        self.base, self.source = base, evidence

    def attach(self, base: Any, *, evidence: Any = None) -> None:
        self.base, self.source = base, evidence

    def score(self, histories: Any, candidates: Any = None) -> np.ndarray:
        scores = np.asarray(self.base.user_vectors(histories) @ self.base.item_vectors().T)
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def score_with(self, histories: Any, candidates: Any, evidence: Any) -> np.ndarray:
        scores = np.asarray(self.score(histories, candidates))
        np.add.at(scores, (evidence.table.rows, evidence.table.columns), 1)
        return scores

    def get_state(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1)}

    def load_state(self, state: Any) -> None: ...


@hookimpl
def dynmm_register_adapters() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            name="reading",
            target=f"{__name__}:Reading",
            config=f"{__name__}:PromptConfig",
            summary="Reads evidence",
            slot="prompt",
        )
    ]


def pipeline(folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(folder / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 2, "dim": 8}},
        "evidence": [{"name": "cf_neighbours", "config": {"k": 3}}, TREND],
        "explain": {"users": 10, "items": 2},
        "evaluate": {"at": [10]},
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    generate_dataset(n_users=60, n_items=48).save(folder / "data")
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> Run:
    return run(load_pipeline(pipeline(folder)), runs_dir=folder / "runs")


def test_a_run_keeps_its_explanations_and_what_they_are_worth(done: Run):
    table = pq.read_table(done.folder / "explanations.parquet")
    assert len(table) == 20
    assert table["recommender"].unique().to_pylist() == ["bpr_mf"]
    found = done.metrics["explanations"]["7"]
    assert (found["users"], found["explanations"], found["writer"]) == (10, 20, "template")
    assert found["hallucination"]["after_checking"] == 0
    assert found["faithfulness"] is None
    assert "no prompt reads the evidence" in found["notes"][0]
    assert "explanations.parquet" in done.manifest.files
    records = read_explanations(done.folder / "explanations.parquet")
    assert records == done.explanations
    assert [record["rank"] for record in records[:2]] == [1, 2]
    cited = [record for record in records if cited_things(record)]
    assert len(cited) == found["coverage"] * len(records) > 0


def test_stored_claims_are_read_the_same_again(done: Run):
    from dynmm_framework.config.explain import ExplainBlock
    from dynmm_framework.explain.claims import unsupported
    from dynmm_framework.explain.explanations import Explainer

    explainer = Explainer(EvidenceSource({}), done.dataset.items, ExplainBlock(users=10, items=2))
    places = {name: number for number, name in enumerate(explainer.ids)}
    for record in done.explanations:
        case = stored_case(record, places, explainer.titles)
        claims = explainer.checker.check(record["sentence"], case)
        assert unsupported(claims) == []
        assert [claim.text for claim in claims] == [c["text"] for c in record["claims"]]


def test_the_stage_stands_on_recommender_evidence_and_settings(folder: Path, done: Run):
    plan = make_plan(load_pipeline(pipeline(folder)), runs_dir=folder / "runs")
    stage = plan.named("explain/bpr_mf/seed-7")
    assert stage.cached
    for changed in (
        {"explain": {"users": 10, "items": 3}},
        {"evidence": ["trend"]},
        {"backbone": {"name": "bpr_mf", "config": {"epochs": 3, "dim": 8}}},
    ):
        other = make_plan(load_pipeline(pipeline(folder, **changed)), runs_dir=folder / "runs")
        assert other.named(stage.name).key != stage.key


def test_a_prompt_that_reads_evidence_is_tested_for_faithfulness(folder: Path):
    catalogue = load_catalogue()
    catalogue.register(sys.modules[__name__], name="reading")
    settings = pipeline(folder, prompt={"name": "reading"})
    settings["explain"] = {"users": 30, "items": 1, "faithfulness_users": 30}
    found = run(load_pipeline(settings, catalogue=catalogue), runs_dir=folder / "runs").metrics[
        "explanations"
    ]["7"]
    measured = found["faithfulness"]["recommended"]
    assert measured["comprehensiveness"] > measured["comprehensiveness_random"]
    assert measured["tests"]["comprehensiveness"]["t_p"] < 0.01
    assert not any("no faithfulness" in note for note in found["notes"])
    own = measured["among_own"]  # three neighbours and a trend, all of which are shown
    assert own["pairs"] + own["left_out"] == measured["pairs"]
    assert own["left_out"] > 0
    assert any("own records, recommended: left out" in note for note in found["notes"])


# A finished run.


def test_any_user_is_explained_to(done: Run):
    user = done.dataset.users["id"][5].as_py()
    found = done.explain(user, k=2)
    assert [entry["rank"] for entry in found] == [1, 2]
    best = [entry["item"] for entry in done.recommend(user, k=3)]
    assert [entry["item"] for entry in found] == best[:2]
    (one,) = done.explain(user, [best[2]])
    assert (one["item"], one["rank"]) == (best[2], 3)
    assert {place for claim in one["claims"] for place in claim["evidence"]} <= {
        "item",
        *(record["id"] for record in one["evidence"]),
    }


def test_what_cannot_be_explained_is_said(done: Run, folder: Path):
    users = done.dataset.users["id"].to_pylist()
    known = done.dataset.items["id"][int(done.known_history(users[0])[0][0])].as_py()
    with pytest.raises(DataError, match="has no user 'nobody'"):
        done.explain("nobody")
    with pytest.raises(DataError, match="has no item 'nothing'"):
        done.explain(users[0], ["nothing"])
    with pytest.raises(DataError, match="has no item named"):
        done.explain(users[0], [])
    with pytest.raises(DataError, match=f"has chosen item '{known}' already"):
        done.explain(users[0], [known])
    settings = pipeline(folder)
    del settings["evidence"], settings["explain"]
    bare = run(load_pipeline(settings), runs_dir=folder / "runs")
    with pytest.raises(ArtifactError, match="has no evidence") as caught:
        bare.explain(users[0])
    assert "evidence: [cf_neighbours, trend]" in str(caught.value.hint)
    assert bare.explanations == []


def test_a_user_without_history_is_told_so(done: Run, monkeypatch: pytest.MonkeyPatch):
    from dynmm_framework.data.tables import Histories

    monkeypatch.setattr(Run, "known_history", lambda *_: Histories.of([[]], 48))
    with pytest.raises(DataError, match="has no history in dataset"):
        done.explain("u1")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"evidence": []}, "explain needs evidence"),
        ({"explain": {"writer": "language_model"}}, "needs one: llm: smollm2_135m"),
        (
            {"explain": {"writer": "language_model", "llm": "smolm2_135m"}},
            "unknown language model",
        ),
        ({"explain": {"wording": {"trend": "now"}}}, "must hold {count}"),
    ],
)
def test_wrong_settings_are_refused(folder: Path, changed: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
        load_pipeline(pipeline(folder, **changed))


# What reads it.


def test_the_page_has_a_card_for_each_explanation(done: Run):
    shown = cards(done)
    assert len(shown) == 20
    sentence = "".join(piece.text for piece in shown[0].pieces)
    assert sentence == done.explanations[0]["sentence"]
    page = render(done)
    assert page.count('<article class="card">') == 20
    assert "rest on evidence" in page


def test_the_auditor_finds_nothing_and_then_what_was_changed(done: Run, tmp_path: Path):
    import shutil

    def audit(folder: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(ROOT / "examples" / "audit_explanations.py"), str(folder)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    good = audit(done.folder)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "0 unsupported" in good.stdout
    copy = tmp_path / "copy"
    shutil.copytree(done.folder, copy)
    table = pq.read_table(copy / "explanations.parquet")
    rows = table.to_pylist()
    claims = json.loads(rows[0]["claims"])
    target = next(claim for claim in claims if claim["kind"] == "number")
    start, end = target["start"], target["end"]
    target["text"] = "9" * (end - start)
    rows[0]["sentence"] = rows[0]["sentence"][:start] + target["text"] + rows[0]["sentence"][end:]
    rows[0]["claims"] = json.dumps(claims)
    pq.write_table(
        type(table).from_pylist(rows, schema=table.schema), copy / "explanations.parquet"
    )
    bad = audit(copy)
    assert bad.returncode == 1
    assert "1 unsupported" in bad.stdout


# What is known of the user.


def test_what_was_known_before_the_test_explains_as_the_report_does(done: Run):
    stored: dict[str, list[dict[str, Any]]] = {}
    for record in done.explanations:
        stored.setdefault(record["user"], []).append(record)
    differ = 0
    for user, records in stored.items():
        again = done.explain(user, k=2, known="test")
        assert [entry.pop("score") for entry in again] == pytest.approx(
            [record["score"] for record in records]
        )
        kept = [{k: v for k, v in r.items() if k in again[0]} for r in records]
        assert again == kept
        differ += [e["item"] for e in done.explain(user, k=2)] != [r["item"] for r in records]
    assert differ  # with the test's item known, what is recommended is not all the same


def test_an_item_of_the_test_is_explained_by_what_was_known_before(done: Run):
    user = done.explanations[0]["user"]
    target = done.dataset.items["id"][int(done.known_history(user)[0][-1])].as_py()
    with pytest.raises(DataError, match="has chosen item") as caught:
        done.explain(user, [target])
    assert "known: test" in str(caught.value.hint)
    (found,) = done.explain(user, [target], known="test")
    assert found["item"] == target
    assert done.explain(user, [target], known="train")[0]["item"] == target


def test_a_user_of_whom_nothing_was_known_is_told_so(done: Run, monkeypatch: pytest.MonkeyPatch):
    from dynmm_framework.data.tables import Histories
    from dynmm_framework.engine import vectors

    empty = Histories.of([[]] * 60, 48)
    monkeypatch.setattr(vectors, "known_histories", lambda *_: empty)
    with pytest.raises(DataError, match="before the test: there is nothing") as caught:
        done.explain(done.explanations[0]["user"], known="test")
    assert "known: all" in str(caught.value.hint)


def auditor() -> Any:
    path = ROOT / "examples" / "audit_explanations.py"
    spec = importlib.util.spec_from_file_location("audit_explanations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_auditor_finds_a_denial_beside_claims():
    reader = auditor()

    def found(sentence: str, *claimed: str) -> list[str]:
        places = [(sentence.index(text), text) for text in claimed]
        claims = [{"start": start, "end": start + len(text)} for start, text in places]
        row = {"sentence": sentence, "claims": json.dumps(claims)}
        return [text for text, _ in reader.unnamed(row)]

    assert found("You do not often choose Comedy.", "Comedy") == ["not"]
    assert found("“Never Again” may suit you.", "Never Again") == []
    assert found("There is no evidence for it that could be shown.") == []


def test_the_auditor_holds_a_pair_of_numbers_to_one_record_that_is_named():
    records = [
        {"kind": "attribute", "name": "Comedy", "support": 7, "of": 20, "values": {}},
        {"kind": "neighbour", "name": "Babe", "support": 1, "of": 20, "values": {}},
        {"kind": "cohort", "name": "", "support": 0, "of": 0, "values": {"count": 8, "users": 51}},
    ]

    def found(sentence: str) -> list[str]:
        row = {"sentence": sentence, "claims": "[]"}
        return [text for text, _ in auditor().unpaired(row, records)]

    assert found("You often choose Comedy (7 of your last 20), 8 of 51 people did.") == []
    assert found("It is close to Babe, and 7 of your last 20 choices.") == ["7 of your last 20"]
    assert found("You often choose Comedy (7 of 51).") == ["7 of 51"]


def test_the_auditor_finds_titles_that_nothing_claims():
    def found(sentence: str, *claimed: str) -> list[str]:
        places = [(sentence.index(text), text) for text in claimed]
        claims = [{"start": start, "end": start + len(text)} for start, text in places]
        row = {"sentence": sentence, "claims": json.dumps(claims)}
        return [text for text, _ in auditor().unclaimed(row, {"toy story", "toy story 2"})]

    assert found("It is like Toy Story.") == ["Toy Story"]
    assert found("It is like Toy Story.", "Toy Story") == []
    assert found("It is like “Toy Story 2”.", "Toy Story 2") == []
    assert found("It is like Toy Story 2.", "Toy Story") == ["Toy Story 2"]
    assert found("It is a toy story.") == []


def test_the_auditor_holds_words_whole():
    def holds(text: str, name: str) -> bool:
        record = {"kind": "attribute", "name": name, "group": "genre"}
        found: bool = auditor().holds({"kind": "attribute", "text": text}, record, {})
        return found

    assert holds("comedies", "Comedy")
    assert holds("sci fi", "Sci-Fi")
    assert not holds("man", "Romance")
    assert not holds("…", "Comedy")


def test_damaged_explanations_are_told_of(done: Run, tmp_path: Path):
    path = tmp_path / "explanations.parquet"
    path.write_bytes((done.folder / "explanations.parquet").read_bytes()[:500])
    with pytest.raises(ArtifactError, match="not a whole table of explanations") as caught:
        read_explanations(path)
    assert "run the same pipeline again" in str(caught.value.hint)
    words = [sys.executable, str(ROOT / "examples" / "audit_explanations.py"), str(tmp_path)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "cannot be read, so nothing was checked" in found.stderr
    assert "Traceback" not in found.stderr
