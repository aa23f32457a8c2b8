"""The blocks of content: encoders, and what is asked of an alignment besides its accuracy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dynmm_framework.config.blocks import Block, ComponentRef, distinct


class MediaBlock(Block):
    """Where an encoder's files are, for data whose item table does not say."""

    pattern: str = Field(min_length=1)
    """Path with ``{id}`` for the item's id, such as ``posters/{id}.jpg``; ``*`` may stand in the
    file's name."""
    folder: str = "."
    """Folder that the pattern starts from."""

    @field_validator("pattern")
    @classmethod
    def _names_an_item(cls, value: str) -> str:
        if "{id}" not in value:
            raise ValueError(
                f"must have {{id}} where an item's id stands, as posters/{{id}}.jpg, not {value!r}"
            )
        return value


class EncoderRef(ComponentRef):
    """A modality's encoder, and where its files are."""

    media: MediaBlock | None = None
    """Where the files are; null takes the paths in the item table."""


class TextEncoderRef(EncoderRef):
    """The encoder of texts, and which columns they are made of."""

    fields: list[str] = []
    """Columns of the item table that make an item's text, joined by full stops, such as ``[title,
    categories]``; an item lacks text where all of them are empty. By default ``text`` alone, or
    ``title`` where it is empty."""

    @field_validator("fields")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return distinct(value)


class Encoders(Block):
    """Encoders by modality; each turns a part of the items' content into vectors."""

    text: TextEncoderRef | None = None
    """Reads the items' ``text``, or their ``title`` where there is none, or ``fields``."""
    vision: EncoderRef | None = None
    """Reads the items' ``image``."""
    audio: EncoderRef | None = None
    """Reads the items' ``audio``."""

    @field_validator("text")
    @classmethod
    def _texts_are_no_files(cls, value: TextEncoderRef | None) -> TextEncoderRef | None:
        # The paths of the files would be encoded, as if they were the texts.
        if value is not None and value.media is not None:
            raise ValueError(
                "media are files of pictures or sounds; texts stand in the item table, so leave it"
                " out"
            )
        return value

    @property
    def given(self) -> dict[str, EncoderRef]:
        """The encoders that are there, by modality."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: ref for name, ref in found.items() if ref is not None}


class Ablation(Block):
    """A variant of the alignment, or of the prompt, compared with the whole."""

    name: str = Field(min_length=1)
    """What is different, such as ``without similarity``; part of its label."""
    align: ComponentRef | None = None
    """What to change. Settings that are not named are those of the pipeline's own ``align``."""
    prompt: ComponentRef | None = None
    """What to change of the prompt instead; settings that are not named are those of ``prompt``."""

    @model_validator(mode="after")
    def _changes_one_thing(self) -> Ablation:
        if self.align is not None and self.prompt is not None:
            raise ValueError("changes align and prompt; make a variant of each")
        if self.align is None and self.prompt is None:
            raise ValueError("names no change; give align or prompt")
        return self


class Robustness(Block):
    """What the alignment loses when modalities are missing as it ranks."""

    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        default=[0.25, 0.5, 0.75, 1.0], min_length=1
    )
    """Shares of the items that lose a modality, on top of those that lack it anyway; the items of
    a smaller share are among those of a larger one."""
    combinations: bool = True
    """Drop modalities together too, not only one by one."""

    @field_validator("shares")
    @classmethod
    def _in_order(cls, value: list[float]) -> list[float]:
        return sorted(distinct(value))


Role = Literal["fit", "align", "prompt"]
"""How a recommender comes about: fitted by itself, or put on others as an alignment or a prompt."""
Control = Literal["shuffled_features", "popularity_bias", "shuffled_evidence"]
"""What a gain could come from besides content or evidence; see ``controls`` of a pipeline."""


def controlled(control: Control) -> Role:
    """Returns what a control varies: the alignment or the prompt."""
    return "prompt" if control == "shuffled_evidence" else "align"
