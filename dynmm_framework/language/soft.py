"""Prompts of words and of places for soft tokens, and how soft tokens come into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import LanguageModel

HOLE = -1
"""Token id of a place for a soft token."""

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt: tokens, and places for soft tokens.

    Attributes:
        ids: Token ids ``(n,)`` int64, ``HOLE`` at places for soft tokens.
        soft: Segment to the places of its soft tokens, in order: ``user``, ``history``,
            ``evidence``, ``candidates``, ``slots``; segments without any are absent.
        spans: Segment to its first place and the one after its last; the tokens of a segment
            are exactly these.
        slots: Place of each candidate, at which its score is read, ``(C,)``.
        head: Number of leading tokens that every prompt of the template begins with.
        kept: Items of the history that are in the prompt: the newest ones.
        dropped: Items of the history that did not fit: the oldest ones.
    """

    ids: Places
    soft: Mapping[str, Places]
    spans: Mapping[str, tuple[int, int]]
    slots: Places
    head: int = 0
    kept: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def continued(self, answer: Sequence[int]) -> Prompt:
        """Returns the prompt with an answer's tokens after it, which belong to no segment."""
        return replace(self, ids=np.concatenate([self.ids, np.asarray(answer, dtype=np.int64)]))

    @property
    def tokens(self) -> dict[str, int]:
        """Number of tokens of each segment; they add up to the prompt's."""
        return {name: end - start for name, (start, end) in self.spans.items()}


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Several prompts as tensors, padded on the right.

    Attributes:
        ids: ``(batch, length)``; padding and places for soft tokens hold ``pad_id``.
        mask: Which places hold a token, soft ones too, ``(batch, length)`` bool.
        soft: Segment to the places of its soft tokens, ``(batch, k)``; -1 where a row has fewer.
        slots: ``(batch, C)``; -1 where a row has fewer candidates.
        skipped: Leading tokens of each prompt that are not here, as a prefix holds them.
    """

    ids: Tensor
    mask: Tensor
    soft: Mapping[str, Tensor] = field(default_factory=dict)
    slots: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.long))
    skipped: int = 0

    @property
    def padding(self) -> float:
        """Share of the places that hold nothing."""
        return 1 - float(self.mask.float().mean()) if self.mask.numel() else 0.0


def collate(
    prompts: Sequence[Prompt], *, pad_id: int, skip: int = 0, device: torch.device | str = "cpu"
) -> PromptBatch:
    """Puts prompts into one batch.

    Args:
        prompts: The prompts; those of similar length waste least
            (:func:`dynmm_framework.language.batches.by_length`).
        pad_id: Token that fills rows up.
        skip: Leading tokens to leave out because a prefix holds them, such as ``Prompt.head``.
        device: Where the tensors go.

    Raises:
        ValueError: If a soft token or a slot is among the tokens to leave out.
    """
    ids = [prompt.ids[skip:] for prompt in prompts]
    length = max(map(len, ids), default=0)
    table = np.full((len(ids), length), HOLE, dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=bool)
    for row, tokens in enumerate(ids):
        table[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = True
    names = dict.fromkeys(name for prompt in prompts for name in prompt.soft)
    soft = {
        name: _places([prompt.soft.get(name, np.empty(0, np.int64)) for prompt in prompts], skip)
        for name in names
    }
    return PromptBatch(
        ids=torch.from_numpy(np.where(table == HOLE, pad_id, table)).to(device),
        mask=torch.from_numpy(mask).to(device),
        soft={name: places.to(device) for name, places in soft.items()},
        slots=_places([prompt.slots for prompt in prompts], skip).to(device),
        skipped=skip,
    )


def inject(llm: LanguageModel, batch: PromptBatch, soft: Mapping[str, Tensor]) -> Tensor:
    """Returns the embeddings of a batch, with soft tokens at their places.

    Gradients flow into the soft tokens.

    Args:
        llm: Gives the embeddings of the words.
        batch: The prompts.
        soft: Segment to its soft tokens, ``(batch, k, hidden_size)``, as many as the batch has
            places; what stands where a row has fewer is ignored.

    Returns:
        ``(batch, length, hidden_size)``, in the language model's type.

    Raises:
        ValueError: If the segments or the numbers of soft tokens differ from the batch's places.
    """
    if missing := set(batch.soft) ^ set(soft):
        raise ValueError(f"soft tokens and places differ in: {', '.join(sorted(missing))}")
    embeddings = llm.embed(batch.ids)
    for name, vectors in soft.items():
        places = batch.soft[name].to(embeddings.device)
        wanted = (*places.shape, embeddings.shape[2])
        if tuple(vectors.shape) != wanted:
            raise ValueError(f"{name} needs soft tokens of shape {wanted}, not {vectors.shape}")
        rows, columns = (places >= 0).nonzero(as_tuple=True)
        values = vectors.to(embeddings)[rows, columns]
        embeddings = embeddings.index_put((rows, places[rows, columns]), values)
    return embeddings


def newest_items(histories: Histories, places: Tensor) -> Tensor:
    """Returns the items whose soft tokens stand at a batch's places of the history.

    Args:
        histories: One for each prompt, of which each prompt has the newest items.
        places: ``batch.soft["history"]``, ``(batch, k)``.

    Returns:
        Item ids ``(batch, k)`` int64; 0 where a row has no place.
    """
    kept = (places >= 0).sum(dim=1).tolist()
    out = torch.zeros(places.shape, dtype=torch.long)
    for row, number in enumerate(kept):
        if number:
            newest = histories[row][-number:].astype(np.int64)
            out[row, :number] = torch.from_numpy(newest)
    return out


def _places(rows: Sequence[Places], skip: int) -> Tensor:
    """Stacks places of rows, moved by what is left out; -1 fills up."""
    if any(len(row) and row.min() < skip for row in rows):
        raise ValueError("a soft token or a slot lies in the prefix that is left out")
    out = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row - skip
    return torch.from_numpy(out)
