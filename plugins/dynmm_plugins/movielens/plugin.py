"""The door of the MovieLens readers."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``movielens_100k`` and ``movielens_1m``."""
    return [
        ComponentSpec(
            name="movielens_100k",
            target="dynmm_plugins.movielens.reader_100k:MovieLens100K",
            config="dynmm_plugins.movielens.config:MovieLens100KConfig",
            summary="MovieLens-100K: ratings, titles, genres, users (Harper & Konstan, 2015)",
        ),
        ComponentSpec(
            name="movielens_1m",
            target="dynmm_plugins.movielens.reader_1m:MovieLens1M",
            config="dynmm_plugins.movielens.config:MovieLens1MConfig",
            summary="MovieLens-1M: ratings, titles, genres, users, plots and posters if present "
            "(Harper & Konstan, 2015)",
        ),
    ]
