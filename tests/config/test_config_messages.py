"""Every kind of mistake in a component's settings, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dynmm_framework.config.blocks import Block
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.config.validate import Finding, check, field_names, given


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Block):
    """Nested settings."""

    size: Annotated[int, Field(ge=1)]
    name: str = ""


class Circle(Block):
    """A union's member with a tag."""

    shape: Literal["circle"]
    radius: float


class Square(Block):
    """Another member."""

    shape: Literal["square"]
    side: float


class Model(Block):
    """One field of every type that settings may have."""

    whole: int = 0
    real: float = 0.0
    flag: bool = False
    text: str = ""
    path: Path = Path()
    day: date = date(2020, 1, 1)
    colour: Colour = Colour.RED
    word: Literal["none", "first", "last"] = "none"
    one: Literal[1] = 1
    low: Annotated[int, Field(gt=0)] = 1
    high: Annotated[float, Field(lt=1)] = 0.0
    atmost: Annotated[int, Field(le=5)] = 0
    even: Annotated[int, Field(multiple_of=2)] = 0
    named: Annotated[str, Field(min_length=1, max_length=3)] = "x"
    long: Annotated[str, Field(min_length=2)] = "xx"
    coded: Annotated[str, Field(pattern="^[a-z]$")] = "x"
    items: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    pair: tuple[int, int] = (1, 2)
    group: set[int] = set()
    table: dict[str, int] = {}
    inner: Inner = Inner(size=1)
    inners: list[Inner] = []
    by_name: dict[str, Inner] = {}
    maybe: int | None = None
    auto: int | Literal["auto", "none"] = "auto"
    either: int | str | bool = 0
    mixed: Inner | list[int] = [1]
    shape: Annotated[Circle | Square, Field(discriminator="shape")] | None = None
    untagged: Circle | Square | None = None
    sequence: Sequence[int] = ()
    mapping: Mapping[str, Inner] = {}
    own: int = 0

    @field_validator("own")
    @classmethod
    def _own(cls, value: int) -> int:
        assert value != 2, "two is taken"
        if value == 1:
            raise ValueError("one is not enough")
        if value == 3:
            raise ValueError
        return value


def line(data: dict[str, Any]) -> str:
    value, findings = check(Model, data)
    assert value is None
    (finding,) = findings
    return f"{'.'.join(map(str, finding.path))}: {finding.message}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"whole": "x"}, "whole: must be a whole number, not 'x'"),
        ({"whole": "5"}, "whole: must be a whole number, not '5'"),
        ({"whole": True}, "whole: must be a whole number, not true"),
        ({"whole": 1.5}, "whole: must be a whole number, not 1.5"),
        ({"whole": None}, "whole: must be a whole number, not null"),
        ({"whole": [1]}, "whole: must be a whole number, not a list"),
        ({"whole": {"a": 1}}, "whole: must be a whole number, not a mapping"),
        ({"whole": float("inf")}, "whole: must be a finite number, not inf"),
        ({"real": "x"}, "real: must be a number, not 'x'"),
        ({"real": "1.5"}, "real: must be a number, not '1.5'"),
        ({"real": False}, "real: must be a number, not false"),
        ({"real": float("nan")}, "real: must be a finite number, not nan"),
        ({"flag": "maybe"}, "flag: must be true or false, not 'maybe'"),
        ({"flag": "yes"}, "flag: must be true or false, not 'yes'"),
        ({"flag": 1}, "flag: must be true or false, not 1"),
        ({"flag": 2}, "flag: must be true or false, not 2"),
        ({"flag": []}, "flag: must be true or false, not a list"),
        ({"text": 3}, "text: must be text, not 3"),
        ({"text": None}, "text: must be text, not null"),
        ({"path": 3}, "path: must be a path, not 3"),
        ({"day": "soon"}, "day: must be a valid date or datetime, input is too short, not 'soon'"),
        ({"colour": "rde"}, "colour: must be one of red, blue, not 'rde'; did you mean red?"),
        ({"word": "frist"}, "word: must be one of none, first, last, not 'frist'; did you mean f"),
        ({"word": 3}, "word: must be one of none, first, last, not 3"),
        ({"one": 2}, "one: must be 1, not 2"),
        ({"low": 0}, "low: must be greater than 0, not 0"),
        ({"high": 1}, "high: must be less than 1, not 1"),
        ({"high": True}, "high: must be a number, not true"),
        ({"high": "7"}, "high: must be a number, not '7'"),
        ({"atmost": 6}, "atmost: must be at most 5, not 6"),
        ({"even": 3}, "even: must be a multiple of 2, not 3"),
        ({"named": ""}, "named: must not be empty"),
        ({"named": "long"}, "named: must have at most 3 characters"),
        ({"long": "x"}, "long: must have at least 2 characters"),
        ({"coded": "7"}, "coded: must match the pattern ^[a-z]$"),
        ({"items": []}, "items: must have at least 1 entry, not 0"),
        ({"items": [1, 2, 3]}, "items: must have at most 2 entries, not 3"),
        ({"items": 1}, "items: must be a list, not 1"),
        ({"items": "ab"}, "items: must be a list, not 'ab'"),
        ({"items": [1, "x"]}, "items.1: must be a whole number, not 'x'"),
        ({"pair": [1]}, "pair: too short: entry 2 is missing"),
        ({"pair": [1, 2, 3]}, "pair: must have at most 2 entries, not 3"),
        ({"pair": [1, None]}, "pair.1: must be a whole number, not null"),
        ({"pair": 3}, "pair: must be a list, not 3"),
        ({"group": 3}, "group: must be a list, not 3"),
        ({"table": 3}, "table: must be a mapping of settings, not 3"),
        ({"table": {"a": "x"}}, "table.a: must be a whole number, not 'x'"),
        ({"inner": 3}, "inner: must be a mapping of settings, not 3"),
        ({"inner": {"size": 0}}, "inner.size: must be at least 1, not 0"),
        ({"inner": {}}, "inner.size: missing"),
        ({"inner": {"size": 1, "nmae": ""}}, "inner.nmae: unknown field; did you mean name?"),
        ({"inner": {"size": 1, "xyz": ""}}, "inner.xyz: unknown field; known: size, name"),
        ({"inner": {"siez": 1}}, "inner.siez: unknown field; did you mean size?"),
        ({"inners": [{"size": 1}, {"size": 1, "q": 1}]}, "inners.1.q: unknown field; known: size"),
        ({"by_name": {"a": {"size": 1, "q": 1}}}, "by_name.a.q: unknown field; known: size, name"),
        ({"mapping": {"a": {"size": 1, "q": 1}}}, "mapping.a.q: unknown field; known: size, name"),
        ({"sequence": [1, "x"]}, "sequence.1: must be a whole number, not 'x'"),
        ({"maybe": "x"}, "maybe: must be a whole number, not 'x'"),
        (
            {"auto": "aut"},
            "auto: must be a whole number or one of auto, none, not 'aut'; did you",
        ),
        ({"auto": "3"}, "auto: must be a whole number or one of auto, none, not '3'"),
        ({"auto": []}, "auto: must be a whole number or one of auto, none, not a list"),
        ({"either": []}, "either: must be a whole number or text or true or false, not a list"),
        ({"mixed": {"size": 0}}, "mixed.size: must be at least 1, not 0"),
        ({"mixed": ["x"]}, "mixed.0: must be a whole number, not 'x'"),
        ({"mixed": 3}, "mixed: must be a mapping of settings or a list, not 3"),
        ({"shape": {"shape": "circel"}}, "shape.shape: unknown shape 'circel'; did you mean circl"),
        ({"shape": {"shape": "zzz"}}, "shape.shape: unknown shape 'zzz'; known: circle, square"),
        ({"shape": {}}, "shape.shape: missing; one of circle, square"),
        ({"shape": 3}, "shape: must be a mapping of settings, not 3"),
        ({"shape": {"shape": "circle"}}, "shape.radius: missing"),
        (
            {"shape": {"shape": "circle", "radius": 1, "side": 1}},
            "shape.side: unknown field; known: shape, radius",
        ),
        ({"untagged": {"shape": "square"}}, "untagged.side: missing"),
        ({"own": 1}, "own: one is not enough"),
        ({"own": 2}, "own: two is taken"),
        ({"own": 3}, "own: not valid"),
        ({"wohle": 3}, "wohle: unknown field; did you mean whole?"),
    ],
)
def test_a_mistake_is_said_in_plain_words(data: dict[str, Any], message: str) -> None:
    assert line(data).startswith(message)


@pytest.mark.parametrize(
    "data",
    [
        {"whole": 3.0, "real": 3, "pair": [1, 2], "group": [1, 1], "colour": "blue"},
        {"path": "a/b", "day": "2021-02-03", "auto": "auto", "maybe": None, "sequence": [1]},
        {"untagged": {"shape": "square", "side": 1}, "mixed": [1], "either": "x", "table": {}},
    ],
)
def test_what_yaml_can_say_is_accepted(data: dict[str, Any]) -> None:
    value, findings = check(Model, data)
    assert findings == []
    assert isinstance(value, Model)


def test_all_mistakes_are_found_at_once() -> None:
    data = {"whole": "5", "real": "x", "flag": "yes", "inner": {"size": 0, "q": 1}, "w": 1}
    _, findings = check(Model, data, at=("backbone", "config"))
    assert sorted(".".join(map(str, f.path)) for f in findings) == [
        "backbone.config.flag",
        "backbone.config.inner.q",
        "backbone.config.inner.size",
        "backbone.config.real",
        "backbone.config.w",
        "backbone.config.whole",
    ]


def test_a_missing_field_is_reported_on_the_line_of_its_block() -> None:
    _, (finding,) = check(Model, {"inner": {}}, at=("config",))
    assert finding == Finding(("config", "inner", "size"), "missing", "missing")
    assert finding.anchor == ("config", "inner")


def test_aliases_are_the_names_in_files() -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(extra="forbid")
        lambda_: float = Field(0.1, alias="lambda")

    assert field_names(Aliased) == ["lambda"]
    assert check(Aliased, {"lambda": 0.5})[0].lambda_ == 0.5
    _, (finding,) = check(Aliased, {"lamda": 0.5})
    assert finding.message == "unknown field; did you mean lambda?"


def test_a_whole_model_may_be_refused() -> None:
    class Consistent(BaseModel):
        low: int = 0
        high: int = 1

        @model_validator(mode="after")
        def _order(self) -> Consistent:
            if self.low > self.high:
                raise ValueError("low must not exceed high")
            return self

    assert check(Consistent, {"low": 3}, at=("config",))[1] == [
        Finding(("config",), "low must not exceed high")
    ]


def test_long_and_strange_values_are_shown_briefly() -> None:
    assert len(given("x" * 1000)) < 70
    assert given(b"x") == "a list"
    assert given(object()) == "a object"
    assert given(2.5) == "2.5"


def test_every_strategy_is_listed_for_an_unknown_one() -> None:
    base = {"version": 1, "data": "x", "backbone": "y"}
    _, (finding,) = check(Pipeline, {**base, "split": {"strategy": "zzz"}})
    assert finding.path == ("split", "strategy")
    assert finding.message == (
        "unknown strategy 'zzz'; known: leave_one_out, temporal_user, random, global_time, "
        "cold_start, cold_items, streaming, mmrec, user_disjoint, given"
    )
    _, (finding,) = check(Pipeline, {**base, "split": {"ratios": [0.8, 0.1, 0.1]}})
    assert finding.message.startswith("missing; one of leave_one_out, temporal_user")
    _, (finding,) = check(Pipeline, {**base, "split": {"strategy": "mmrec", "ratios": []}})
    assert finding.message == "unknown field; known: strategy"
    _, (finding,) = check(
        Pipeline, {**base, "split": {"strategy": "random", "ratios": [0.5, 0.4, 0.2]}}
    )
    assert finding.path == ("split", "ratios")
    assert finding.message == "ratios must sum to 1, not 1.1"


NO_PROTOCOL = (
    "must be full, {sampled: N} with N negatives for each target, {cold: N} for items with fewer "
    "than N training interactions, or auc for rated targets"
)


@pytest.mark.parametrize(
    ("protocol", "path", "message"),
    [
        ("ful", (), NO_PROTOCOL),
        (3, (), NO_PROTOCOL),
        ("cold", (), NO_PROTOCOL),
        ("cold:all", (), "must be a whole number, not 'all'"),
        ("cold:0", (), "must be at least 1, not 0"),
        ({"cold": 0}, ("cold",), "must be at least 1, not 0"),
        ({"cold": 1, "x": 1}, ("x",), "unknown field; known: cold"),
        ("sampled:x", (), "must be a whole number, not 'x'"),
        ("sampled:0", (), "must be at least 1, not 0"),
        ({"sampled": 0}, ("sampled",), "must be at least 1, not 0"),
        ({"sampled": True}, ("sampled",), "must be a whole number, not true"),
        ({"sampled": 5, "x": 1}, ("x",), "unknown field; known: sampled"),
        ({"full": False}, ("full",), "must be true, not false"),
    ],
)
def test_protocols(protocol: Any, path: tuple[str, ...], message: str) -> None:
    data = {"version": 1, "data": "x", "backbone": "y", "split": {"strategy": "mmrec"}}
    _, (finding,) = check(Pipeline, {**data, "evaluate": {"protocols": ["full", protocol]}})
    assert finding.path == ("evaluate", "protocols", 1, *path)
    assert finding.message == message
