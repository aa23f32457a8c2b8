from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import dynmm_framework


@pytest.mark.parametrize("name", dynmm_framework.__all__)
def test_every_export_is_there(name: str) -> None:
    assert getattr(dynmm_framework, name) is not None
    assert name in dir(dynmm_framework)


def test_the_version_is_that_of_the_distribution() -> None:
    assert dynmm_framework.__version__ == metadata.version("dynmm-framework")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dynmm_framework' has no attribute 'nope'"):
        _ = dynmm_framework.nope


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import dynmm_framework, sys; print([m for m in sys.modules if 'dynmm_' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.strip()
    assert "dynmm_framework." not in loaded
