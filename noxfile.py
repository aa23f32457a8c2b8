"""Sessions that need environments of their own; `make` covers the everyday ones."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"
CONSTRAINED = ("--constraint", "constraints.txt")


@nox.session(python=["3.11", "3.12"])
def tests(session: nox.Session) -> None:
    """Runs the fast suite on each Python."""
    session.install(*CONSTRAINED, "-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Runs ruff, mypy and import-linter."""
    session.install(*CONSTRAINED, "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", env={"PYTHONPATH": "plugins:registry"})


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation; a warning is an error."""
    session.install(*CONSTRAINED, "-e", ".[docs]")
    build = ("-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")
    session.run("python", "-m", "sphinx", *build, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Builds the wheel and uses the command line of a bare install of it."""
    session.install("build")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder))
    session.install(*CONSTRAINED, *(str(wheel) for wheel in folder.glob("*.whl")))
    session.run("dynmm", "--help")
    session.run("dynmm", "validate", "examples/quickstart.yaml")


@nox.session
def third_party(session: nox.Session) -> None:
    """Installs the example of an external plugin beside dynmm and runs its own tests."""
    session.install(*CONSTRAINED, ".[torch]", "./examples/third_party_plugin[test]")
    session.run("dynmm", "plugins", "info", "gru4rec")
    session.run("dynmm", "validate", "examples/third_party_plugin/pipeline.yaml")
    session.chdir("examples/third_party_plugin")
    session.run("pytest")


@nox.session
def everything(session: nox.Session) -> None:
    """Installs every extra without the constraints and imports what they bring."""
    session.install(".[all]")
    modules = "torch, torchvision, torchaudio, transformers, open_clip, sentence_transformers"
    session.run("python", "-c", f"import {modules}, faiss, ray.tune, peft, gguf, fastapi, timm")


@nox.session
def constraints(session: nox.Session) -> None:
    """Resolves every extra anew and prints the set for constraints.txt."""
    trio = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
    session.run("pip", "install", "--dry-run", "--ignore-installed", ".[all,dev]", *trio)
