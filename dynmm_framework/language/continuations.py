"""What a language model expects after each of several continuations of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from dynmm_framework.language.batches import Rows, by_length, compute_batches
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.scoring import MAX_TOKENS, Advance, Ids
from dynmm_framework.protocols import FloatArray, LanguageModel

SIDE_BY_SIDE = 512
"""Tokens of continuations that are read beside each other after one prompt."""


def next_logits(
    llm: LanguageModel,
    prompts: Sequence[Ids],
    continuations: Sequence[Sequence[Ids]],
    wanted: Ids,
    *,
    head: Prefix | None = None,
    max_tokens: int = MAX_TOKENS,
    log: Callable[[str], None] | None = None,
    progress: Callable[[str, int], AbstractContextManager[Advance]] | None = None,
) -> list[FloatArray]:
    """Returns the logits of a few tokens after each continuation of each prompt, in one pass each.

    A prompt is read once; all its continuations then follow side by side, where each sees the
    prompt and itself. A prompt with one continuation is read with it as one text.

    Args:
        llm: The language model.
        prompts: Tokens after ``head``; at least one, unless there is a head.
        continuations: For each prompt, the tokens of each continuation, at least one token each.
        wanted: The tokens whose logits are asked for, such as those of Yes and No.
        head: What all prompts begin with, from
            :func:`dynmm_framework.language.scoring.read_head`.
        max_tokens: Most tokens of one pass.
        log: Told when memory runs out and batches are halved.
        progress: Opens a progress bar over prompts.

    Returns:
        For each prompt ``(C, len(wanted))`` float32.

    Raises:
        StageError: If memory runs out for half a batch too.
        ValueError: If a continuation has no token.
    """
    if any(not len(ids) for row in continuations for ids in row):
        raise ValueError("nothing can be expected after a continuation without a token")
    say = log or _silent
    name = str(getattr(llm, "name", "the language model"))
    chosen = torch.tensor(list(wanted))
    lengths = [
        len(prompt) + sum(map(len, row)) for prompt, row in zip(prompts, continuations, strict=True)
    ]

    @torch.no_grad()
    def compute(rows: Rows) -> list[FloatArray]:
        asked = [continuations[row] for row in rows]
        if all(len(row) == 1 for row in asked):
            states = _read_alone(llm, [[*prompts[i], *continuations[i][0]] for i in rows], head)
        else:
            states = _read_side_by_side(llm, [prompts[i] for i in rows], asked, head)
        found = llm.logits(states)[:, chosen.to(states.device)].cpu().numpy()
        ends = np.cumsum([len(row) for row in asked])
        return np.split(found, ends[:-1])

    out: list[FloatArray] = [np.empty((0, len(chosen)), np.float32)] * len(prompts)
    bar = nullcontext(_silent) if progress is None else progress("asking", len(prompts))
    with bar as advance:
        groups = [
            part
            for rows in by_length(lengths, max_tokens=max_tokens)
            for part in _apart(rows, continuations)
        ]
        for rows, values in compute_batches(groups, compute, log=say, place=name):
            for row, logits in zip(rows, values, strict=True):
                out[row] = logits
            advance(len(rows))
    return out


def _apart(rows: Rows, continuations: Sequence[Sequence[Ids]]) -> list[Rows]:
    """Keeps prompts with one continuation and those with several in batches of their own."""
    single = np.array([len(continuations[row]) == 1 for row in rows], dtype=bool)
    some = np.array([len(continuations[row]) > 0 for row in rows], dtype=bool)
    return [part for part in (rows[single], rows[some & ~single]) if len(part)]


def _read_alone(llm: LanguageModel, texts: Sequence[Ids], head: Prefix | None) -> torch.Tensor:
    """Returns the state of each text's last token, ``(batch, hidden_size)``."""
    ids, mask = _padded(texts, llm.pad_id)
    last = torch.tensor([[len(text) - 1] for text in texts])
    words = llm.embed(ids)
    prefix = None if head is None else head.expanded(len(texts))
    return llm.forward(words, mask=mask, prefix=prefix, at=last)[:, 0]


def _read_side_by_side(
    llm: LanguageModel,
    prompts: Sequence[Ids],
    continuations: Sequence[Sequence[Ids]],
    head: Prefix | None,
) -> torch.Tensor:
    """Returns the state of each continuation's last token, prompt after prompt."""
    if max(map(len, prompts)):
        ids, mask = _padded(prompts, llm.pad_id)
        start = llm.prefill(llm.embed(ids), mask=mask, prefix=head)
    else:
        assert head is not None  # without one, no prompt is empty
        start = head.expanded(len(prompts))
    parts = [_split(row) for row in continuations]
    found: list[list[torch.Tensor]] = [[] for _ in continuations]
    for turn in range(max(map(len, parts))):
        here = [row for row, pieces in enumerate(parts) if turn < len(pieces)]
        prefix = start if len(here) == len(start) else start.take(torch.tensor(here))
        states = _read_apart(llm, prefix, [parts[row][turn] for row in here])
        for row, own in zip(here, states, strict=True):
            found[row].append(own)
    return torch.cat([states for row in found for states in row])


def _read_apart(
    llm: LanguageModel, start: Prefix, continuations: Sequence[Sequence[Ids]]
) -> list[torch.Tensor]:
    """Returns the last states of each prompt's continuations, ``(C, hidden_size)`` each."""
    flat = [[token for ids in row for token in ids] for row in continuations]
    ids, _ = _padded(flat, llm.pad_id)
    owner = np.full(ids.shape, -1, dtype=np.int64)
    offset = np.zeros(ids.shape, dtype=np.int64)
    last = np.zeros((len(flat), max(map(len, continuations))), dtype=np.int64)
    for number, row in enumerate(continuations):
        sizes = [len(tokens) for tokens in row]
        owner[number, : len(flat[number])] = np.repeat(np.arange(len(row)), sizes)
        offset[number, : len(flat[number])] = np.concatenate([np.arange(size) for size in sizes])
        last[number, : len(row)] = np.cumsum(sizes) - 1
    device = start.mask.device
    owners, offsets = torch.from_numpy(owner).to(device), torch.from_numpy(offset).to(device)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=device).tril()
    among = (owners[:, :, None] == owners[:, None, :]) & causal
    before = start.mask[:, None, :].expand(-1, ids.shape[1], -1)
    hidden = llm.forward(
        llm.embed(ids),
        mask=torch.cat([before, among], dim=2),
        prefix=start,
        positions=start.lengths[:, None] + offsets,
        at=torch.from_numpy(last),
    )
    return [states[: len(row)] for states, row in zip(hidden, continuations, strict=True)]


def _split(continuations: Sequence[Ids]) -> list[list[Ids]]:
    """Splits a prompt's continuations: what stands side by side costs the square of its length."""
    parts: list[list[Ids]] = [[]]
    tokens = 0
    for ids in continuations:
        if parts[-1] and tokens + len(ids) > SIDE_BY_SIDE:
            parts.append([])
            tokens = 0
        parts[-1].append(ids)
        tokens += len(ids)
    return parts


def _padded(rows: Sequence[Ids], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns tokens ``(batch, length)`` and which of them are not padding."""
    length = max(map(len, rows))
    ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=bool)
    for number, tokens in enumerate(rows):
        ids[number, : len(tokens)] = tokens
        mask[number, : len(tokens)] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _silent(*_: object) -> None:
    """Says nothing."""
