from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.config.yaml import Document, parse, parse_value, read
from dynmm_framework.errors import ConfigError


def problems(source: str | Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(source, file="f.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-1.5", -1.5),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("1_000", 1000),
        ("_", "_"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("'3'", "3"),
        ("!!str 3", "3"),
        ("[1, a, [b]]", [1, "a", ["b"]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_entry_has_its_line() -> None:
    document = parse("# comment\na:\n  b: 1\n  c: [1,\n     2]\nd:\n- x\n- {y: 1}\n", file="f.yaml")
    assert dict(document.lines) == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("d",): 6,
        ("d", 0): 7,
        ("d", 1): 8,
        ("d", 1, "y"): 8,
    }
    assert document.line(("a", "z", "z")) == 2
    assert document.line(("z",)) == 2
    assert Document({}, {}, "").line(("z",)) == 0


def test_anchors_and_merge_keys_are_read() -> None:
    text = """
base: &base {size: 1, rate: 2}
other: &other {rate: 3, depth: 4}
one:
  <<: *base
  size: 9
two:
  <<: [*other, *base]
  layers: *base
"""
    document = parse(text)
    assert document.data["one"] == {"size": 9, "rate": 2}
    assert document.data["two"] == {
        "size": 1,
        "rate": 3,
        "depth": 4,
        "layers": {"size": 1, "rate": 2},
    }
    assert document.lines["one", "size"] == 6
    assert document.lines["one", "rate"] == 2
    assert document.lines["two", "rate"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml: the file is empty"),
        ("# only a comment\n", "f.yaml: the file is empty"),
        ("---\n", "f.yaml: the file is empty"),
        ("- a\n", "f.yaml:1: expected `key: value` lines, found a list"),
        ("just text", "f.yaml:1: expected `key: value` lines, found 'just text'"),
        ("a:\n\t- b", "f.yaml:2: not valid YAML: a tab; indent with spaces"),
        ("a: 1\n  b: 2", "f.yaml:2: not valid YAML: a key where none can be; check the"),
        ("a: [1,\nb: 2", "f.yaml:2: not valid YAML: expected ',' or ']'"),
        ("a: 'x", "f.yaml:1: not valid YAML: found unexpected end of stream, while scanning"),
        ("a: @x", "f.yaml:1: not valid YAML: found character '@' that must be quoted"),
        ("a: *b", "f.yaml:1: not valid YAML: there is no anchor for the alias 'b'"),
        ("a: &x 1\nb: &x 2", "f.yaml:2: not valid YAML: the anchor 'x' is defined twice"),
        ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML: a second document begins here"),
        ("a: 1\nb: \x01", "f.yaml:2: not valid YAML: a control character; is this a text file?"),
        ("# c\n%YAML 1.1\n---\na: no", "f.yaml:2: remove the line that starts with %: this is"),
        ("a: 1\na: 2", "f.yaml:2: a: duplicate key; the first is on line 1"),
        ("a: {b: 1, b: 1}", "f.yaml:1: a.b: duplicate key; the first is on line 1"),
        ("1: x", 'f.yaml:1: the key 1 is not text; write "1"'),
        ("a: {true: x}", 'f.yaml:1: a: the key true is not text; write "true"'),
        ("[1]: x", "f.yaml:1: a key is text, and this is a list or mapping"),
        ("a: !!python/object:os.system x", "f.yaml:1: a: !!python/object:os.system x is not all"),
        ("a: !custom {}", "f.yaml:1: a: !custom is not allowed; files hold plain data only"),
        ("a: !!binary aGk=", "f.yaml:1: a: !!binary aGk= is not allowed"),
        ("a: !!set {x}", "f.yaml:1: a: !!set is not allowed"),
        ("a: !!int x", "f.yaml:1: a: !!int x is not allowed"),
        ("a: " + "9" * 5000, "f.yaml:1: a: !!int 9999"),
        (r'a: "\ud800"', r"f.yaml:1: a: !!str \ud800 is not allowed"),
        (r'"\ud800": 1', r"f.yaml:1: !!str \ud800 is not allowed"),
        ("a: {<<: 3}", "f.yaml:1: a: << must be followed by a mapping or a list of them"),
        ("a: &a [*a]", "f.yaml:1: a.0.0: nests too deep; does an alias repeat or contain itself?"),
        ("a: &a {b: *a}", "f.yaml:1: a.b.b: nests too deep"),
        ("a: &a {<<: *a}", "f.yaml:1: a: nests too deep"),
        ("a: " + "[" * 100 + "]" * 100, "f.yaml:1: a.0.0: nests too deep"),
        ("[" * 600, "f.yaml: nests too deep"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(text: str, message: str) -> None:
    (line,) = problems(text)
    assert line.startswith(message)
    assert len(line) < 200


def test_all_duplicates_are_reported_at_once() -> None:
    text = "a: 1\nb: &b {c: 1, c: 2}\na: 2\nd: *b\n3: x\n"
    assert problems(text) == [
        "f.yaml:2: b.c: duplicate key; the first is on line 2",
        "f.yaml:3: a: duplicate key; the first is on line 1",
        'f.yaml:5: the key 3 is not text; write "3"',
    ]


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_an_alias_bomb_is_refused_quickly(form: str) -> None:
    lines = ["a: &a {x: 1, y: 2}"]
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        lines.append(f"{name}: &{name} " + form.format(",".join([f"*{before}"] * 9)))
    start = time.process_time()
    (line,) = problems("\n".join(lines))
    assert time.process_time() - start < 5
    assert "is too long; does an alias repeat or contain itself?" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1".encode("utf-16"), "f.yaml:1: not UTF-8 text (byte 0xff); save it as UTF-8"),
        (b"a: 1\nb: \xe9", "f.yaml:2: not UTF-8 text (byte 0xe9); save it as UTF-8"),
        (b"a: 1\n" * 300_000, "f.yaml: larger than 1 MB; is this YAML?"),
        (b"\x80\x02", "f.yaml:1: not UTF-8 text (byte 0x80)"),
        (b"", "f.yaml: the file is empty"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    (line,) = problems(file)
    assert line.startswith(message)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\nb: 2\r\n")
    document = parse(file)
    assert document.data == {"a": "é", "b": 2}
    assert document.file == str(file)
    assert document.lines["b",] == 2


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("a: 1")
    assert problems(tmp_path / "pipelin.yaml") == [
        "f.yaml: no such file; did you mean pipeline.yaml?"
    ]
    assert problems(tmp_path / "gone" / "x.yaml") == ["f.yaml: no such file"]
    assert problems(tmp_path) == ["f.yaml: this is a folder; name a YAML file in it"]
    assert problems(tmp_path / "pipeline.yaml" / "x") == ["f.yaml: cannot be read: Not a directory"]
    assert problems(Path("a\0b")) == ["f.yaml: cannot be read: embedded null byte"]
    assert problems(tmp_path / ("x" * 300)) == ["f.yaml…: cannot be read: File name too long"]


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # permissions themselves do not stop root
    assert problems(tmp_path / "x.yaml") == ["f.yaml: no permission to read this file"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=20), json_values, min_size=1, max_size=4))
def test_json_is_read_as_it_is(data: dict[str, Any]) -> None:
    assert parse(json.dumps(data)).data == data


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_data_or_clear_problems(text: str) -> None:
    document, problems = read(text, file="f.yaml")
    assert problems or (document is not None and isinstance(document.data, dict))
    assert all(problem.file == "f.yaml" for problem in problems)
    "\n".join(map(str, problems)).encode()


def test_values_of_overrides() -> None:
    assert parse_value("1e-3") == 0.001
    assert parse_value("[0.8, 0.1, 0.1]") == [0.8, 0.1, 0.1]
    assert parse_value("{name: x}") == {"name": "x"}
    assert parse_value("no") == "no"
    for text, message in {"[1": "not valid YAML", "!x 3": "is not allowed"}.items():
        with pytest.raises(ConfigError, match=message):
            parse_value(text)
