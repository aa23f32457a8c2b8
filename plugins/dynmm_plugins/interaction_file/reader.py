"""People's own data: any table of interactions, with a map of its columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.columns import Field, Unit, quoted
from dynmm_framework.data.files import require_file
from dynmm_framework.data.rows import Findings, build
from dynmm_framework.data.tables import Dataset
from dynmm_framework.protocols import Context
from dynmm_plugins.interaction_file.config import (
    Column,
    InteractionFileConfig,
    ItemsFile,
    UsersFile,
)
from dynmm_plugins.interaction_file.formats import read_table

_UNITS: dict[str, Unit] = {
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
}
_FIRST_DATE, _LAST_DATE = 19_000_101, 21_001_231


class InteractionFile:
    """Reads a file of interactions and, if there are any, files of items and users.

    Ids are strings, the white space around them dropped. Pictures and sounds themselves are not
    opened; what an item has none of is null.
    """

    def __init__(self, config: InteractionFileConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        config = self.config
        named = {"path": config.path}
        if config.items is not None:
            named["items.path"] = config.items.path
            if config.items.texts is not None:
                named["items.texts"] = config.items.texts
        if config.users is not None:
            named["users.path"] = config.users.path
        findings = Findings()
        paths = []
        for setting, name in named.items():
            paths.append(Path(name).expanduser())
            with findings.collecting():
                require_file(paths[-1], setting=f"data.config.{setting}")
        findings.raise_if_any()
        return paths

    def read(self, ctx: Context) -> Dataset:
        paths = iter(self.files(ctx))
        findings = Findings()
        main = next(paths)
        interactions = items = users = None
        with findings.collecting():
            interactions = self._interactions(main)
        if self.config.items is not None:
            with findings.collecting():
                items = _items(next(paths), self.config.items, interactions, ctx)
            if self.config.items.texts is not None:
                with findings.collecting():
                    texts = _texts(next(paths))
                    items = items if items is None else _described(items, texts)
        if self.config.users is not None:
            with findings.collecting():
                users = _users(next(paths), self.config.users, interactions)
        findings.raise_if_any()
        assert interactions is not None
        return build(
            main.name.removesuffix(".gz").rsplit(".", 1)[0],
            interactions,
            items=items,
            users=users,
            keep_unseen_items=self.config.keep_unseen_items,
            ctx=ctx,
        )

    def _interactions(self, path: Path) -> pa.Table:
        columns = self.config.columns
        fields = [
            Field(name="user", column=columns.user, kind="id", setting="columns.user"),
            Field(name="item", column=columns.item, kind="id", setting="columns.item"),
        ]
        named = columns.model_fields_set
        if columns.timestamp is not None:
            fields.append(
                Field(
                    name="timestamp",
                    column=columns.timestamp,
                    kind="time",
                    unit=_UNITS[self.config.timestamp_unit],
                    pattern=self.config.timestamp_format or "",
                    optional="timestamp" not in named,
                    setting="columns.timestamp",
                )
            )
        if columns.rating is not None:
            fields.append(
                Field(
                    name="rating",
                    column=columns.rating,
                    kind="number",
                    optional="rating" not in named,
                    setting="columns.rating",
                )
            )
        table = read_table(path, fields, self.config)
        self._check_dates(table, path)
        return table

    def _check_dates(self, table: pa.Table, path: Path) -> None:
        """Refuses dates such as 20240131 that would pass for seconds of August 1970."""
        if "timestamp" not in table.column_names or pa.types.is_temporal(table["timestamp"].type):
            return
        span = pc.min_max(table["timestamp"]).as_py()
        if span["min"] >= _FIRST_DATE and span["max"] <= _LAST_DATE:
            findings = Findings()
            findings.add(
                f"{span['min']:.0f} to {span['max']:.0f} look like dates, not like "
                f"{self.config.timestamp_unit} since 1970",
                file=path,
                path="columns.timestamp",
            )
            findings.raise_if_any(hint="Set data.config.timestamp_format, here to '%Y%m%d'.")


def _extra(columns: Sequence[Column], setting: str, taken: Sequence[Field]) -> list[Field]:
    """Returns fields that keep columns under their own names.

    Raises:
        DataError: If a name is that of another column of the table.
    """
    names = {field.name for field in taken}
    findings = Findings()
    for column in columns:
        if str(column) in names:
            findings.add(f"there is a column {str(column)!r} already", path=setting)
    findings.raise_if_any(hint=f"Leave it out of data.config.{setting}.")
    return [
        Field(name=str(column), column=column, kind="any", setting=setting)
        for column in dict.fromkeys(columns)
    ]


def _items(path: Path, config: ItemsFile, interactions: pa.Table | None, ctx: Context) -> pa.Table:
    fields = [Field(name="id", column=config.id, kind="id", unique=True, setting="items.id")]
    if config.title is not None:
        fields.append(Field(name="title", column=config.title, setting="items.title"))
    texts = config.text if isinstance(config.text, list) else [config.text]
    parts = [
        Field(name=f"text {number}", column=column, setting="items.text")
        for number, column in enumerate(texts)
        if column is not None
    ]
    fields += parts
    if config.categories is not None:
        fields.append(
            Field(
                name="categories",
                column=config.categories,
                kind="list",
                separator=config.categories_separator,
                setting="items.categories",
            )
        )
    media = {"image": config.image, "audio": config.audio}
    fields += [
        Field(name=name, column=column, setting=f"items.{name}")
        for name, column in media.items()
        if column is not None
    ]
    fields += _extra(config.extra, "items.extra", fields)
    table = read_table(path, fields, config)
    table = _with_text(table, [part.name for part in parts])
    findings = Findings()
    _check_known(table, interactions, "item", path, findings)
    folder = Path(config.media_folder).expanduser() if config.media_folder else path.parent
    for name in media:
        if name in table.column_names:
            paths = _existing(table.column(name), folder.resolve(), name, path, findings, ctx)
            table = table.set_column(table.column_names.index(name), name, paths)
    findings.raise_if_any()
    return table


def _users(path: Path, config: UsersFile, interactions: pa.Table | None) -> pa.Table:
    fields = [Field(name="id", column=config.id, kind="id", unique=True, setting="users.id")]
    fields += _extra(config.extra, "users.extra", fields)
    table = read_table(path, fields, config)
    findings = Findings()
    _check_known(table, interactions, "user", path, findings)
    findings.raise_if_any()
    return table


def _with_text(table: pa.Table, parts: Sequence[str]) -> pa.Table:
    """Joins the columns that make up the text."""
    if not parts:
        return table
    text = table.column(parts[0])
    for name in parts[1:]:
        part = table.column(name)
        text = pc.coalesce(pc.binary_join_element_wise(text, part, " "), text, part)
    return table.drop_columns(list(parts)).append_column("text", text)


def _texts(path: Path) -> dict[str, str]:
    """Reads a JSON object from item to description."""
    findings = Findings()
    texts: object = None
    try:
        texts = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        findings.add(f"is not UTF-8: {error.reason} at byte {error.start + 1}", file=path)
    except json.JSONDecodeError as error:
        findings.add(f"is not JSON: {error.msg}", file=path, line=error.lineno)
    else:
        if not isinstance(texts, dict):
            findings.add("is not an object from item to description", file=path)
    entries = texts if isinstance(texts, dict) else {}
    for item, text in entries.items():
        if not isinstance(text, str | None):
            findings.add(f"{quoted(text)} is no text", file=path, path=f"item {item}")
    findings.raise_if_any(hint='Set data.config.items.texts to a file as {"item": "…"}.')
    return {item.strip(): text for item, text in entries.items() if text}


def _described(items: pa.Table, texts: dict[str, str]) -> pa.Table:
    """Puts descriptions behind what the items' texts or titles say."""
    named = next((name for name in ("text", "title") if name in items.column_names), None)
    first = items.column(named).to_pylist() if named else [None] * items.num_rows
    both = zip(first, (texts.get(item) for item in items.column("id").to_pylist()), strict=True)
    joined = [" ".join(part for part in parts if part) or None for parts in both]
    table = items.drop_columns(["text"]) if named == "text" else items
    return table.append_column("text", pa.array(joined, pa.string()))


def _check_known(
    table: pa.Table, interactions: pa.Table | None, role: str, path: Path, findings: Findings
) -> None:
    """Refuses a table none of whose ids occurs in the interactions: the column is a wrong one."""
    if interactions is None:
        return
    used = pc.unique(interactions.column(role))
    if not pc.any(pc.is_in(used, value_set=table.column("id").combine_chunks())).as_py():
        ours, theirs = quoted(used[0].as_py()), quoted(table.column("id")[0].as_py())
        findings.add(
            f"none of its ids, such as {theirs}, is among the {role}s of the interactions, such "
            f"as {ours}",
            file=path,
            path=f"{role}s.id",
        )


def _existing(
    names: pa.ChunkedArray, folder: Path, kind: str, path: Path, findings: Findings, ctx: Context
) -> pa.Array:
    """Returns the paths of the files that exist, null for the others."""
    paths = [folder / name if name is not None else None for name in names.to_pylist()]
    found = [str(place) if place is not None and _is_file(place) else None for place in paths]
    named = [place for place in paths if place is not None]
    missing = len(named) - sum(place is not None for place in found)
    if named and missing == len(named):
        findings.add(
            f"none of the {missing:,} files exists, such as {named[0]}; set items.media_folder",
            file=path,
            path=f"items.{kind}",
        )
    elif missing:
        ctx.log(f"{path.name}: {missing:,} of {len(named):,} {kind} files do not exist")
    return pa.array(found, pa.string())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is none, such as a whole sentence
        return False
