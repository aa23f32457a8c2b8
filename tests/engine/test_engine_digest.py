"""Digests of the code that stages run."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

from dynmm_framework.engine.digest import code_digest

SCRIPT = """
from dynmm_framework.engine.digest import code_digest

assert len(code_digest("__main__")) == 64
"""


def test_a_component_may_live_in_a_script(tmp_path):
    script = tmp_path / "experiment.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_module_without_a_file_has_no_code_to_digest(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    assert code_digest("made_by_hand") == code_digest("made_by_hand")


def test_a_package_is_digested_whole(tmp_path, monkeypatch):
    package = tmp_path / "acme_models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_digest("acme_models")
    (package / "model.py").write_text("a = 2\n")
    code_digest.cache_clear()
    assert code_digest("acme_models") != before
