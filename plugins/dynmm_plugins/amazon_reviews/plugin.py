"""The door of the reader of Amazon reviews."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``amazon_reviews``."""
    return [
        ComponentSpec(
            name="amazon_reviews",
            target="dynmm_plugins.amazon_reviews.reader:AmazonReviews",
            config="dynmm_plugins.amazon_reviews.config:AmazonReviewsConfig",
            summary="Amazon reviews and metadata of 2014, 2018 and 2023 as JSON lines "
            "(McAuley et al. 2015, Ni et al. 2019, Hou et al. 2024)",
        )
    ]
