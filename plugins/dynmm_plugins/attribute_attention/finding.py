"""Where attributes are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynmm_framework.errors import StageError
from dynmm_plugins.attribute_attention.attributes import Attributes, key_phrases, of_columns
from dynmm_plugins.attribute_attention.config import AttributeAttentionConfig, PictureLabels

if TYPE_CHECKING:
    from dynmm_framework.data.tables import TrainingData
    from dynmm_framework.protocols import Context

DEFAULT_COLUMNS = ("categories", "genres")


def find_attributes(
    data: TrainingData, config: AttributeAttentionConfig, ctx: Context, *, owner: str
) -> Attributes:
    """Finds the attributes of all items.

    Args:
        data: The items, and the vectors of their pictures.
        config: Where to look.
        ctx: Gives the encoder of labels.
        owner: Name of the component, for errors.

    Raises:
        StageError: If a column is missing, or there is nothing to look at.
    """
    items = data.items
    there = items.column_names
    columns = config.columns
    if columns is None:
        columns = [column for column in DEFAULT_COLUMNS if column in there]
    if missing := [column for column in columns if column not in there]:
        raise StageError(
            f"stage {ctx.stage}: {owner} takes attributes from columns that the items do not "
            f"have: {', '.join(missing)}",
            hint=f"The item table has {', '.join(there)}; name some of them in columns.",
        )
    texts = [column for column in config.text if column in there] if config.phrases else []
    if not columns and not texts and config.labels is None:
        raise StageError(
            f"stage {ctx.stage}: {owner} finds no attributes: the items have neither "
            f"{' nor '.join(DEFAULT_COLUMNS)}, and no text",
            hint=f"The item table has {', '.join(there)}; name some of them in columns.",
        )
    found = of_columns(items, columns)
    if config.labels is not None:
        found.extend(_labels(data, config.labels, ctx, owner=owner))
    if texts:
        phrases = key_phrases(
            items,
            texts,
            top=config.phrases,
            words=config.phrase_words,
            least_items=config.least_items,
            share=config.largest_share,
        )
        found.extend(phrases)
    return found.kept(
        least_items=config.least_items,
        largest_share=config.largest_share,
        per_item=config.per_item,
    )


def _labels(data: TrainingData, block: PictureLabels, ctx: Context, *, owner: str) -> Attributes:
    """Tells pictures by words: the nearest labels in the encoder's space."""
    pictures = data.features.get(block.modality)
    if pictures is None:
        raise StageError(
            f"stage {ctx.stage}: {owner} labels pictures, and there are no vectors of any",
            hint=f"Add encoders: {{{block.modality}: {block.encoder.name}}} to the pipeline, "
            "or remove labels.",
        )
    encoder = ctx.component(block.encoder)
    if not hasattr(encoder, "encode_texts"):
        raise StageError(
            f"stage {ctx.stage}: {owner} labels pictures by words, and {block.encoder.name} "
            "encodes no texts",
            hint="Name an encoder of both in labels.encoder, such as clip.",
        )
    words = encoder.encode_texts([block.prompt.format(word) for word in block.words])
    if words.shape[1] != pictures.dim:
        raise StageError(
            f"stage {ctx.stage}: {owner}: {block.encoder.name} gives words {words.shape[1]} "
            f"numbers, and the pictures' vectors have {pictures.dim}",
            hint=f"labels.encoder and encoders.{block.modality} must be the same encoder.",
        )
    found = Attributes(data.n_items)
    for item in np.flatnonzero(pictures.present).tolist():
        vector = pictures.vectors[item]
        logits = words @ vector / max(float(np.linalg.norm(vector)), 1e-12)
        chances = np.exp((logits - logits.max()) / block.temperature)
        chances /= chances.sum()
        for number in np.argsort(-chances, kind="stable")[: block.top].tolist():
            if chances[number] >= block.least:
                found.add(item, block.words[number], group="picture", source=block.modality)
    return found
