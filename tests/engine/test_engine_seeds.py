"""Seeds by name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.engine.seeds import spawn_rng, spawn_seed


@given(st.integers(0, 2**32 - 1), st.text(min_size=1), st.text(min_size=1))
def test_a_seed_depends_on_root_and_name_alone(root, name, other):
    assert spawn_seed(root, name) == spawn_seed(root, name)
    if other != name:
        assert spawn_seed(root, name) != spawn_seed(root, other)
    assert spawn_seed(root, name) != spawn_seed((root + 1) % 2**32, name)


def test_a_generator_is_reproducible():
    assert spawn_rng(7, "a").random() == spawn_rng(7, "a").random()
    assert spawn_rng(7, "a").random() != spawn_rng(7, "b").random()
