"""Settings of the reader of interaction files."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dynmm_framework.config.blocks import Block

Column = str | Annotated[int, Field(ge=0)]
"""A column's name; its number, from 0, in a file without header."""


class TableFile(Block):
    """A file with one row an entry, and how it is written."""

    path: str
    """The file; any format but Parquet may be gzip-compressed."""
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    """``csv`` stands for all delimited text; ``auto`` goes by the ending of the name."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Between the fields of delimited text, one or more characters; null finds it out."""
    encoding: str = "utf-8"
    """Of delimited text: ``utf-8``, ``latin-1``, ``cp1252``, ``utf-16`` …"""
    quoting: bool = True
    """Whether fields of delimited text may be enclosed in double quotes; false takes quotes as they
    are.
    """
    header: bool = True
    """Whether the first line of delimited text names the columns."""

    @field_validator("separator")
    @classmethod
    def _tab(cls, value: str | None) -> str | None:
        return "\t" if value in ("\\t", "tab") else value

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError:
            raise ValueError(f"there is no encoding {value!r}") from None


class ColumnMap(Block):
    """Which column plays which role."""

    user: Column = "user"
    """Who."""
    item: Column = "item"
    """What."""
    timestamp: Column | None = "timestamp"
    """When; without it the order of the rows is the order in time. A column of this name is used
    if there is one; null uses none.
    """
    rating: Column | None = "rating"
    """How much; a column of this name is used if there is one; null uses none."""


class ItemsFile(TableFile):
    """A file with one row an item."""

    id: Column = "id"
    """The item, as the interactions name it."""
    title: Column | None = None
    """Short name, shown in lists of recommendations."""
    text: Column | list[Column] | None = None
    """Description; several columns are joined."""
    texts: str | None = None
    """JSON file ``{"item": "description"}``; put behind ``text``, or the title without it."""
    categories: Column | None = None
    """Categories: a list, or text with ``categories_separator`` between them."""
    categories_separator: Annotated[str, Field(min_length=1)] = "|"
    """Between categories given as text."""
    image: Column | None = None
    """Path of a picture, relative to ``media_folder``."""
    audio: Column | None = None
    """Path of a sound file, relative to ``media_folder``."""
    media_folder: str | None = None
    """Folder of pictures and sounds; null is the folder of the items file."""
    extra: list[Column] = []
    """Further columns to keep."""


class UsersFile(TableFile):
    """A file with one row a user."""

    id: Column = "id"
    """The user, as the interactions name it."""
    extra: list[Column] = []
    """Further columns to keep."""


class InteractionFileConfig(TableFile):
    """A file with one row an interaction, and perhaps files of the items and the users."""

    columns: ColumnMap = ColumnMap()
    """Which column of the file plays which role."""
    timestamp_unit: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] = "seconds"
    """Unit of times that are numbers, counted from 1970."""
    timestamp_format: str | None = None
    """Form of times that are text, such as ``%d.%m.%Y %H:%M``; null reads ISO 8601. Times without
    a zone are taken as UTC.
    """
    items: ItemsFile | None = None
    """File of the items."""
    users: UsersFile | None = None
    """File of the users."""
    keep_unseen_items: bool = True
    """Keep items of the items file without interactions in the catalogue."""

    @model_validator(mode="after")
    def _numbers_without_header(self) -> InteractionFileConfig:
        if not self.header:
            roles = {"user": self.columns.user, "item": self.columns.item}
            for role in self.columns.model_fields_set:
                roles[role] = getattr(self.columns, role)
            for role, column in roles.items():
                if isinstance(column, str):
                    raise ValueError(
                        f"in a file without header columns are numbers from 0: columns.{role} is "
                        f"{column!r}"
                    )
        return self
