"""The door of the components that the kit is tested on."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec

BASELINES = {
    "good": ("Good", "GoodConfig"),
    "undocumented": ("Good", "UndocumentedConfig"),
    "undocumented_within": ("Good", "NestedConfig"),
    "lax": ("Good", "LaxConfig"),
    "changeable": ("Good", "ChangeableConfig"),
    "lossy": ("Good", "LossyConfig"),
    **{
        name: (name, "GoodConfig")
        for name in (
            "FitRaises", "NoScore", "ChangesTraining", "ChangesTrainingHistories",
            "NeedsValidation", "Unseeded", "GloballySeeded", "WrongShape", "ScoresAsLists",
            "NaNScores", "FirstCandidates", "TransposedCandidates", "BatchDependent",
            "NeedsKnownUsers", "TakesTheLastUser", "MeanOfNothing", "ShortPositions",
            "DividesByCounts", "DividesByPairs", "NothingLeft", "NeedsEveryUser", "DrawsNegatives",
            "BlamesNumbers", "RefusesTinyData", "ChangesHistories", "ChangesCandidates",
            "StateBeforeFit", "ForgetsNoise", "ForgetsStrangers", "StateOfLists", "NoState",
            "LearnsNothing",
            "Epochs", "EpochsWithoutCheckpoint", "StartsOver", "ForgetsProgress",
            "SwallowsErrors", "OtherOnGPU", "NothingOnGPU",
        )
    },
}  # fmt: skip
BACKBONES = ("GoodBackbone", "TensorBackbone", "OneUserTooMany")


def spec(name: str, target: str, config: str) -> ComponentSpec:
    return ComponentSpec(
        name=name,
        target=f"broken_models:{target}",
        config=f"broken_configs:{config}",
        summary="A component to test the kit on",
    )


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    return [spec(name, *parts) for name, parts in BASELINES.items()]


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    return [spec(name, name, "GoodConfig") for name in BACKBONES]
