"""Settings of the gated MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from dynmm_framework.online.config import OnlineConfig

Weight = Annotated[float, Field(ge=0)]

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "paper": {
        "hidden": 256,
        "span": 1,
        "recent_users": True,
        "average": 0.99,
        "average_warm_up": False,
        "shift_weight": 1.0,
        "consolidation_weight": 1.0,
        "reconstruction_weight": 0.1,
        "prior": 0.0,
        "popularity": 0.0,
        "transitions": 0.0,
        "lasting_half_life": None,
        "guard": False,
    },
}
"""What each preset sets; a field that is given goes before it."""


class GatedMLPConfig(OnlineConfig):
    """Settings of the gated MLP; each part can be switched off for an ablation."""

    preset: Literal["default", "paper"] = "default"
    """``default`` is the design that worked in trials; ``paper`` is equation 1 to 3 as printed:
    items and users of the last window only, no priors, no guard."""
    hidden: Annotated[int, Field(ge=1)] = 64
    """Inner width of the two-layer parts (paper: 256)."""
    gate: bool = True
    """Multiply each correction by its own σ(wᵀq) (paper: α and β)."""
    users: bool = True
    """Correct users too, not only items."""
    share: bool = False
    """Give users and items the same weights; their inputs are padded to one width."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Step size of AdamW (paper: 1e-3)."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the moving average of the weights, which serves; 0 serves the trained ones."""
    average_warm_up: bool = True
    """Begin with smaller decays: min(average, (1 + k) / (10 + k)) after k steps."""
    catalogue: Annotated[int, Field(ge=1)] = 20_000
    """Largest number of items that the ranking loss compares at once; of a larger catalogue the
    targets and a random part are drawn in each step."""

    rank_weight: Weight = 1.0
    """Weight of the cross-entropy over the catalogue, known items masked."""
    shift_weight: Weight = 0.1
    """Weight of the divergence of corrected from frozen latents (paper: equation 2)."""
    sigma: Annotated[float, Field(gt=0)] = 1.0
    """Standard deviation of the Gaussians that are compared."""
    consolidation_weight: Weight = 0.0
    """Weight of online elastic weight consolidation (paper: Ω)."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.9
    """What remains of a window's importance for consolidation after the next."""
    reconstruction_weight: Weight = 0.0
    """Weight of rebuilding the frozen latent from the corrected one (paper: L_recon)."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            preset = value.get("preset", "default")
            if isinstance(preset, str):
                return {**PRESETS.get(preset, {}), **value}
        return value

    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        held = self.consolidation_weight > 0
        name = "without_consolidation" if held else "with_consolidation"
        return {
            "without_divergence": {"shift_weight": 0.0},
            name: {"consolidation_weight": 0.0 if held else 1.0},
            "without_average": {"average": 0.0},
            "without_replay": {"replay_windows": 0},
            "without_gate": {"gate": False},
            "without_users": {"users": False},
            "paper": {**PRESETS["paper"], "preset": "paper"},
        }
