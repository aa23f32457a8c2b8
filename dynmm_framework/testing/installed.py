"""The kit on what is installed: ``dynmm plugins check`` runs pytest with this plugin and a test
file that asks :func:`suite` for a class.

A component's authors know its settings and what it reaches, and say so in a test of their own.
Here nobody does: settings are the component's defaults, and its metrics need only tell it from
random scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dynmm_framework.testing.conformance import ComponentConformance

BETTER_THAN_CHANCE: Mapping[str, tuple[float, float]] = {"ndcg@10": (0.06, 1.0)}
"""What a trained component must reach on the generated users; random scores reach 0.044."""


def suite(
    kind: str,
    component: str,
    *,
    slot: str = "",
    reads_features: bool = False,
    config: Mapping[str, Any] | None = None,
    whole: bool = True,
) -> type[ComponentConformance]:
    """Makes the test class of an installed component.

    Args:
        kind: Its kind.
        component: Its name, best with its distribution: ``acme/sasrec``.
        slot: The slot of an adapter.
        reads_features: Whether an encoder reads vectors that exist already.
        config: Settings; the component's defaults for the rest.
        whole: Everything, or only what is true of components of every kind, which needs neither
            data nor training.
    """
    from dynmm_framework.testing.conformance import ComponentConformance

    base = conformance_class(slot or kind, reads_features=reads_features) if whole else None
    body: dict[str, Any] = {
        "component": component,
        "config": dict(config or {}),
        "kind": kind,
        "expected": BETTER_THAN_CHANCE,
    }
    if not whole:
        body["test_config_survives_a_round_trip"] = _round_trip_of_defaults
    return type("TestInstalled", (base or ComponentConformance,), body)


def _round_trip_of_defaults(self: ComponentConformance, config_model: type[BaseModel]) -> None:
    """Checks the defaults, of components that have one for every setting."""
    from pydantic import ValidationError

    from dynmm_framework.testing.conformance import ComponentConformance

    try:
        config_model()
    except ValidationError as error:
        names = [".".join(map(str, issue["loc"])) for issue in error.errors()]
        pytest.skip(f"it has no defaults for {', '.join(filter(None, names)) or 'its settings'}")
    ComponentConformance.test_config_survives_a_round_trip(self, config_model)


def conformance_class(
    kind: str, *, reads_features: bool = False
) -> type[ComponentConformance] | None:
    """Returns the class of a kind, or of an adapter's slot; ``None`` where there is none yet."""
    from dynmm_framework import testing

    names = {
        "backbone": "BackboneConformance",
        "baseline": "BaselineConformance",
        "encoder": "FeatureReaderConformance" if reads_features else "EncoderConformance",
        "align": "AlignConformance",
        "online": "OnlineConformance",
        "prompt": "PromptConformance",
        "evidence": "EvidenceConformance",
        "language_model": "LanguageModelConformance",
        "dataset": "DatasetConformance",
    }
    found: type[ComponentConformance] | None = getattr(testing, names.get(kind, ""), None)
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds where findings go: a file, one JSON object on a line."""
    parser.addoption("--dynmm-findings", default="", help="File that takes the findings.")


class Findings:
    """Writes each test's result as it is known.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115, PTH123 - open all along

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        reason = report.longrepr
        if isinstance(reason, tuple):  # of a skip: file, line, reason
            reason = str(reason[2]).removeprefix("Skipped: ")
        crash = getattr(getattr(reason, "reprcrash", None), "message", None)
        finding = {
            "suite": report.nodeid.split("::")[1],
            "check": report.location[2].rpartition(".")[2],
            "outcome": report.outcome if report.when == "call" else _before(report.outcome),
            "reason": str(crash or reason or ""),
            "seconds": round(report.duration, 3),
        }
        self.file.write(json.dumps(finding) + "\n")
        self.file.flush()

    def pytest_unconfigure(self) -> None:
        self.file.close()


def _before(outcome: str) -> str:
    """What fails before or after a test is an error; what is skipped there is skipped."""
    return "error" if outcome == "failed" else outcome


def pytest_configure(config: pytest.Config) -> None:
    """Takes the findings, if a file for them is named."""
    if path := config.getoption("--dynmm-findings"):
        config.pluginmanager.register(Findings(path), "dynmm-findings")
