"""Settings of joint alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from dynmm_framework.training.config import CHANGEABLE, LoopConfig

Weight = Annotated[float, Field(ge=0)]
Width = Annotated[int, Field(ge=1)]

_PAPER: Final[Mapping[str, Any]] = {
    "dim": 256,
    "residual": False,
    "similarity": False,
    "similarity_collaborative": False,
    "content_map": False,
    "rarity": False,
    "align_weight": 0.1,
    "reconstruction_weight": 0.1,
}
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "dynmm": {"dim": 256, "align_weight": 0.1, "reconstruction_weight": 0.1},
    "paper": _PAPER,
    "paper_pairs": {**_PAPER, "pairs": "paper"},
    "a_llmrec": {"dim": 128, "align_weight": 0.1, "reconstruction_weight": 0.1},
}
"""What each preset sets; a field that is given goes before it."""


class JointAlignmentConfig(LoopConfig):
    """Settings of joint alignment; each part can be switched off for an ablation."""

    changeable = CHANGEABLE | {
        "align_weight",
        "modality_dropout",
        "rank_weight",
        "reconstruction_weight",
        "temperature",
    }

    preset: Literal["default", "dynmm", "paper", "paper_pairs", "a_llmrec"] = "default"
    """``default`` is what worked in trials; ``dynmm`` the same, 256 wide, with all losses;
    ``paper`` as printed: no residual, no similarity, no map for items without history;
    ``paper_pairs`` aligns collaborative-text, collaborative-image and text-image only;
    ``a_llmrec`` is 128 wide, as for a backbone of width 50. Given fields go before a preset's.
    """
    fusion: Literal["gate", "concat", "cross_attention"] = "gate"
    """How the modalities of an item become one vector."""
    modalities: list[str] = []
    """Modalities that take part, such as ``[text]``; all that have an encoder if none is named."""
    dim: Width | None = None
    """Width of the fused latents (paper: 256); null is the backbone's. With ``residual`` it is at
    least the backbone's."""
    hidden: Width = 256
    """Inner width of all two-layer parts (paper: 256)."""
    residual: bool = True
    """Add what is learned to the backbone's vectors, the last layer initialised to zero, so that
    an untrained alignment ranks exactly as its backbone."""
    modality_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Probability of hiding each modality of an item in training, never all (paper: 0.3)."""

    rank_weight: Weight = 1.0
    """Weight of the ranking loss; 0 trains none of the fused latents unless another loss does."""
    rank_loss: Literal["softmax", "bpr"] = "softmax"
    """Cross-entropy over the catalogue, or BPR with one negative."""
    align_weight: Weight = 0.0
    """λ_m, weight of InfoNCE between modalities (paper: equation 4)."""
    reconstruction_weight: Weight = 0.0
    """λ_r, weight of rebuilding every modality from the latent."""
    modality_weights: dict[str, Weight] = {}
    """Weight of each modality in the reconstruction; 1 where not named; ``cf`` is the
    collaborative vector."""
    pairs: Literal["all", "paper"] = "all"
    """Pairs that InfoNCE brings together: all, or collaborative-text, collaborative-vision and
    text-vision (paper)."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """First temperature of InfoNCE; learned."""
    prefixes: Width = 8
    """Training prefixes of each user, drawn once."""
    catalogue: Width = 20_000
    """Largest number of items that the ranking loss compares at once; of a larger catalogue a
    random part is drawn in each step."""
    items_per_step: Width = 512
    """Items of InfoNCE and reconstruction in one step."""

    similarity: bool = True
    """Add the similarity of an item's content to the user's recent history, a term a modality."""
    similarity_collaborative: bool = True
    """Add the same similarity of collaborative vectors, a term of its own, with or without
    ``similarity``."""
    similarity_items: Width = 5
    """Newest items of the history that count."""
    similarity_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Factor from each item to the one before it."""
    similarity_dim: Width = 128
    """Principal components of the content that are compared."""
    content_map: bool = True
    """Give items without enough history a collaborative vector predicted from their content."""
    content_map_below: Width = 1
    """Items with fewer training interactions than this are mapped."""
    content_map_least: Width = 10
    """Fewest training interactions of an item to learn the map from."""
    content_map_dim: Width = 128
    """Most principal components of each modality that the map reads."""
    rarity: bool = True
    """Add a term in the logarithm of an item's training count. It helps on the whole and hurts
    rare items: switch it off where the tail matters."""
    blend_best: Width = 100
    """Items that compete where the weights of items with history are fitted: those that lead by
    the latents. Over all, users whose target is far down would decide."""
    cold_offset: float | None = None
    """Added to the scores of mapped items where they meet others; null ranks them behind all
    others, in an order of their own, as mixing them in costs more than it gains."""

    epochs: Width = 30
    """Most passes over the training prefixes."""
    batch_size: Width = 1024
    """Prefixes in one step."""
    patience: Annotated[int, Field(ge=0)] = 3
    """Validations without improvement before training stops; 0 trains all epochs."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            preset = value.get("preset", "default")
            if isinstance(preset, str):
                return {**PRESETS.get(preset, {}), **value}
        return value


class ConcatConfig(JointAlignmentConfig):
    """Settings of joint alignment by concatenation."""

    fusion: Literal["gate", "concat", "cross_attention"] = "concat"
    """How the modalities of an item become one vector."""


class CrossAttentionConfig(JointAlignmentConfig):
    """Settings of joint alignment by cross-attention."""

    fusion: Literal["gate", "concat", "cross_attention"] = "cross_attention"
    """How the modalities of an item become one vector."""
