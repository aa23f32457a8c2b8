"""A space in the sampler's terms, and combinations of a space that can be counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dynmm_framework.config.search import Dimension
from dynmm_framework.config.space import Space, holds

if TYPE_CHECKING:
    import optuna

_ABSENT = object()


def distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """Returns what Optuna draws a dimension's values from; see :func:`encode`."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if dimension.choice is not None:
        return CategoricalDistribution([_text(value) for value in dimension.choice])
    if dimension.int is not None:
        values = dimension.values or ()
        return IntDistribution(values[0], values[-1], step=dimension.int.step)
    if dimension.power_of_two is not None:
        powers = dimension.power_of_two
        return IntDistribution(_exponent(powers.low), _exponent(powers.high))
    if dimension.log is not None:
        return FloatDistribution(dimension.log.low, dimension.log.high, log=True)
    assert dimension.float is not None  # one of the kinds is given
    return FloatDistribution(dimension.float.low, dimension.float.high)


def encode(dimension: Dimension, value: Any) -> Any:
    """Returns a value as Optuna knows it: a choice as its text, a power of two as its exponent."""
    if dimension.choice is not None:
        return _text(value)
    return _exponent(value) if dimension.power_of_two is not None else value


def decode(dimension: Dimension, drawn: Any) -> Any:
    """Turns round what :func:`encode` does."""
    if dimension.choice is not None:
        return json.loads(drawn)
    return 2**drawn if dimension.power_of_two is not None else drawn


def contains(dimension: Dimension, value: Any) -> bool:
    """Tells whether a value is one of a dimension's."""
    if dimension.values is not None:
        return any(_text(value) == _text(known) for known in dimension.values)
    found = dimension.float or dimension.log
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return found is not None and is_number and found.low <= value <= found.high


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Draws the values of one trial, conditions first."""
    values: dict[str, Any] = {}
    for path, dimension in space.items():
        if holds(dimension, values):
            values[path] = decode(dimension, _drawn(trial, path, distribution(dimension)))
    return values


def _drawn(trial: optuna.Trial, path: str, found: Any) -> Any:
    if hasattr(found, "choices"):
        return trial.suggest_categorical(path, found.choices)
    if isinstance(found.low, int):
        return trial.suggest_int(path, found.low, found.high, step=found.step)
    return trial.suggest_float(path, found.low, found.high, log=found.log)


def present(space: Space, pipeline: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the values that a pipeline has already, or ``None`` if the space does not hold them.

    Args:
        space: The space.
        pipeline: The pipeline as plain data, defaults filled in.
    """
    values: dict[str, Any] = {}
    for path, dimension in space.items():
        if not holds(dimension, values):
            continue
        found = _at(pipeline, path)
        if isinstance(found, Mapping) and "name" in found and dimension.choice is not None:
            found = found["name"]  # `backbone: [sasrec, lightgcn]` varies the name
        if found is _ABSENT or not contains(dimension, found):
            return None
        values[path] = found
    return values


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Yields every combination of a space whose values can all be counted."""

    def deeper(paths: list[str], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not paths:
            yield values
            return
        first, *rest = paths
        if not holds(space[first], values):
            yield from deeper(rest, values)
            return
        for value in space[first].values or ():
            yield from deeper(rest, {**values, first: value})

    yield from deeper(list(space), {})


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(data, Mapping) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        else:
            return _ABSENT
    return data


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _exponent(power: int) -> int:
    return power.bit_length() - 1
