"""The network of SASRec: a causal transformer over item vectors."""

from __future__ import annotations

import math

from dynmm_framework.training.transformer import SequenceTransformer
from dynmm_plugins.sasrec.config import SASRecConfig


class Network(SequenceTransformer):
    """The shared transformer with the choices that the configuration leaves."""

    def __init__(self, config: SASRecConfig, n_items: int) -> None:
        super().__init__(
            config,
            n_items,
            norm=config.norm,
            activation=config.activation,
            initialisation=config.initialisation,
            input_scale=math.sqrt(config.hidden_size) if config.scale_embedding else 1.0,
        )
