"""The block of a search: which settings vary, what decides, and what it may cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, field_validator, model_validator

from dynmm_framework.config.blocks import Block, distinct

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Power = Annotated[int, Field(ge=1, le=2**30)]
Steps = Annotated[int, Field(ge=1)]
KINDS: Final = ("choice", "int", "float", "log", "power_of_two")
LATENCY: Final = "latency"
"""An objective: median milliseconds to score one user; less is better."""
_SECONDS: Final[Mapping[str, int]] = {"s": 1, "min": 60, "h": 3600, "d": 86400}


class _Range(Block):
    @model_validator(mode="after")
    def _is_not_empty(self) -> _Range:
        low, high = getattr(self, "low"), getattr(self, "high")  # noqa: B009
        if low >= high:
            raise ValueError(f"low ({low:g}) must be less than high ({high:g})")
        return self


class IntRange(_Range):
    """Whole numbers ``low``, ``low + step`` … up to ``high``."""

    low: int
    """Least value."""
    high: int
    """Largest value."""
    step: Steps = 1
    """Distance between two values."""


class FloatRange(_Range):
    """Numbers between ``low`` and ``high``, both included."""

    low: Number
    """Least value."""
    high: Number
    """Largest value."""


class LogRange(_Range):
    """Numbers between ``low`` and ``high``, every order of magnitude alike."""

    low: Positive
    """Least value."""
    high: Positive
    """Largest value."""


class PowerRange(_Range):
    """Powers of two between ``low`` and ``high``, which are some themselves."""

    low: Power
    """Least value."""
    high: Power
    """Largest value."""

    @field_validator("low", "high")
    @classmethod
    def _is_a_power(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"must be a power of two, not {value}")
        return value


class Dimension(Block):
    """What one setting may be. Exactly one of ``choice``, ``int``, ``float``, ``log`` and
    ``power_of_two``. A list alone is a ``choice``; ``default`` for a whole block (``backbone:
    default``) is the space that its component brings.
    """

    default: Literal[True] | None = None
    """The space that the component of this block brings; written as ``default`` alone."""
    choice: Annotated[list[Any], Field(min_length=1)] | None = None
    """One of these values."""
    int: IntRange | None = None
    """A whole number."""
    float: FloatRange | None = None
    """A number."""
    log: LogRange | None = None
    """A number, drawn by its order of magnitude: for rates and weights."""
    power_of_two: PowerRange | None = None
    """8, 16, 32 …: for widths and batches."""
    when: dict[str, Any] = {}
    """Vary this only where other settings of the space are so: ``{backbone.name: sasrec}``, or a
    list of values. Otherwise the setting is left as it is."""

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"choice": value}
        return {"default": True} if value == "default" else value

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Dimension:
        given = [kind for kind in (*KINDS, "default") if getattr(self, kind) is not None]
        if len(given) != 1:
            shown = " and ".join(given) or "none of them"
            raise ValueError(f"must be one of {', '.join(KINDS)}, not {shown}")
        return self

    @property
    def kind(self) -> str:
        """``choice``, ``int``, ``float``, ``log``, ``power_of_two`` or ``default``."""
        return next(k for k in (*KINDS, "default") if getattr(self, k) is not None)

    @property
    def values(self) -> tuple[Any, ...] | None:
        """Every value, if they can be counted."""
        if self.choice is not None:
            return tuple(self.choice)
        if self.int is not None:
            return tuple(range(self.int.low, self.int.high + 1, self.int.step))
        if self.power_of_two is not None:
            low, high = self.power_of_two.low.bit_length(), self.power_of_two.high.bit_length()
            return tuple(2**k for k in range(low - 1, high))
        return None

    def probes(self) -> list[tuple[tuple[str, ...] | tuple[str, Any], Any]]:
        """Returns the values that stand for all: every choice, or both ends and one between.

        Returns:
            Pairs of the place in the block, such as ``("log", "low")``, and the value.
        """
        if self.choice is not None:
            return [(("choice", number), value) for number, value in enumerate(self.choice)]
        found = self.int or self.float or self.log or self.power_of_two
        if found is None:
            return []
        if self.values is not None:
            between = self.values[len(self.values) // 2]
        else:  # no round number, which a field of whole numbers would take
            between = found.low + (found.high - found.low) * 0.3819660113
        kind = self.kind
        return [((kind, "low"), found.low), ((kind, "high"), found.high), ((kind,), between)]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> Any:
        reference = handler(core)
        body = handler.resolve_ref_schema(reference)
        whole = {**body, "minProperties": 1}
        short = [{"const": "default"}, {"type": "array", "minItems": 1}]
        body.clear()
        body.update(
            {
                "anyOf": [*short, whole],
                "description": whole.get("description", ""),
                "title": "Dimension",
            }
        )
        return reference


class Resources(Block):
    """What one trial takes; several trials run at once where there is more."""

    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """CPU cores, which are its threads too."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs; a part of one, such as 0.25, lets several trials share it."""

    @field_validator("gpus")
    @classmethod
    def _is_a_part_or_whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"must be a part of one GPU or whole GPUs, not {value:g}")
        return value

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))


class Scheduler(Block):
    """Stops trials that are behind. Its name alone may be written as a string."""

    name: Literal["none", "asha", "median", "pbt"] = "none"
    """``asha`` keeps at every rung the best of those that came as far (asynchronous successive
    halving); ``median`` stops whoever's best is worse than the median of the others; ``pbt``
    (population-based training, on Ray only) stops nobody: the worst take over the weights of the
    best and go on with other settings, and what is found is a schedule of settings."""
    grace: Steps = 1
    """Epochs before any trial is stopped, or takes over weights; ASHA's first rung."""
    factor: Annotated[int, Field(ge=2)] = 3
    """ASHA keeps one of so many at a rung, and the next rung is so many times as far."""
    least: Annotated[int, Field(ge=1)] = 3
    """Other trials that the median needs."""
    interval: Steps = 5
    """Epochs between two comparisons of the population."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the population that takes over weights, and of those whose they are."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> Any:
        reference = handler(core)
        body = handler.resolve_ref_schema(reference)
        whole = dict(body)
        names = whole["properties"]["name"]["enum"]
        body.clear()
        body.update({"anyOf": [{"enum": names}, whole], "description": whole["description"]})
        return reference


def _seconds(value: Any) -> Any:
    """Reads ``90``, ``90s``, ``10min``, ``2h`` and ``1d``."""
    found = re.fullmatch(r"([0-9]{1,9})(s|min|h|d)", value) if isinstance(value, str) else None
    if found is None and isinstance(value, str):
        raise ValueError(f"must be seconds or a time such as 90s, 10min, 2h or 1d, not {value!r}")
    return int(found[1]) * _SECONDS[found[2]] if found else value


class SearchBlock(Block):
    """A search for better settings; ``dynmm tune`` runs it, ``dynmm run`` leaves it aside."""

    space: Literal["default"] | dict[str, Dimension] = "default"
    """What varies: dotted path of a setting, such as ``backbone.config.dropout`` or
    ``backbone.name``, to its values. ``default`` takes the spaces that the components bring."""
    metric: str | None = None
    """Metric on validation users that decides, and that early stopping follows too;
    ``evaluate.monitor`` if null."""
    mode: Literal["max", "min"] | None = None
    """Whether more is better. The metric says so itself, so it need not be given."""
    objectives: list[str] = []
    """Several in place of ``metric``: a metric first, then others or ``latency``."""
    trials: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Settings that are tried."""
    time_budget: Annotated[
        Annotated[int, Field(ge=1)] | None,
        BeforeValidator(_seconds, json_schema_input_type=int | str | None),
    ] = None
    """After this time, such as ``2h``, no trial is begun, and those that run stop at their next
    epoch; seconds if it is a number."""
    resources: Resources = Resources()
    """What each trial takes."""
    concurrency: Steps | None = None
    """Trials at once; as many as fit if null."""
    sampler: Literal["random", "grid", "tpe"] = "tpe"
    """``tpe`` learns from earlier trials (tree-structured Parzen estimators of Optuna, for several
    objectives too); ``grid`` tries all combinations, in a random order."""
    scheduler: Scheduler = Scheduler()
    """``none``, ``asha`` or ``median``, or one of them with settings."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the sampler; the pipeline's if null."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """How often a trial goes on elsewhere after its worker was lost."""
    engine: Literal["auto", "local", "ray"] = "auto"
    """``ray`` runs trials on Ray workers, ``local`` one after another in this process; ``auto`` is
    ``ray`` where it is installed."""
    address: str | None = None
    """Ray cluster, such as ``auto`` or ``10.0.0.5:6379``; ``compute.address`` or that of
    ``RAY_ADDRESS`` if null, or else one that is started on this machine and stopped again."""

    @field_validator("space")
    @classmethod
    def _varies_something(cls, value: Any) -> Any:
        if not value:
            raise ValueError("names no setting; write default, or paths and their values")
        return value

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return distinct(value)

    @model_validator(mode="after")
    def _fits_together(self) -> SearchBlock:
        if self.objectives and self.metric is not None:
            raise ValueError("has both metric and objectives; write one of them")
        if len(self.objectives) > 1 and self.scheduler.name != "none":
            raise ValueError(
                f"scheduler: {self.scheduler.name} compares trials by one number, and there are"
                f" {len(self.objectives)} objectives; remove it"
            )
        if len(self.objectives) > 1 and self.mode is not None:
            raise ValueError("mode is of one metric; every objective has its own direction")
        if self.engine == "local" and (self.concurrency or 1) > 1:
            raise ValueError(f"concurrency: {self.concurrency} needs engine: ray")
        if self.engine == "local" and self.scheduler.name == "pbt":
            raise ValueError("scheduler: pbt needs engine: ray")
        if self.engine == "local" and self.address is not None:
            raise ValueError(f"address: {self.address} needs engine: ray")
        return self

    def names(self, monitor: str) -> Sequence[str]:
        """Returns the objectives, the first of which decides.

        Args:
            monitor: ``evaluate.monitor`` of the pipeline.
        """
        return self.objectives or [self.metric or monitor]
