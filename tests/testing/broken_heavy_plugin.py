"""A door that imports what it should not."""

from __future__ import annotations

import scipy  # noqa: F401
from broken_plugin import spec

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    return [spec("heavy", "Good", "GoodConfig")]
