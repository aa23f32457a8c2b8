"""Scores of candidates from a frozen language model; never from parsing what it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynmm_framework.language.batches import Rows, by_length, compute_batches
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.soft import HOLE, Prompt, PromptBatch, collate
from dynmm_framework.protocols import FloatArray, LanguageModel

MAX_TOKENS = 4096
"""Tokens of one forward pass, if nothing else is said."""

Ids = Sequence[int]
Advance = Callable[..., None]


def read_head(llm: LanguageModel, head: Ids) -> Prefix | None:
    """Reads what all prompts of a template begin with, once for a run; ``None`` if it is empty."""
    if not len(head):
        return None
    with torch.no_grad():
        return llm.prefill(llm.embed(torch.tensor([list(head)], dtype=torch.long)))


def slot_states(
    llm: LanguageModel, batch: PromptBatch, embeddings: Tensor, *, prefix: Prefix | None = None
) -> Tensor:
    """Reads whole prompts in one pass and returns each candidate's hidden state.

    A head of the caller's makes scores of them. Gradients flow into ``embeddings``.

    Args:
        llm: The language model.
        batch: The prompts.
        embeddings: Theirs, from :func:`dynmm_framework.language.soft.inject`.
        prefix: What the batch left out (``skip``), from :func:`read_head`.

    Returns:
        ``(batch, C, hidden_size)``; meaningless where a row has fewer candidates (``slots`` -1).
    """
    return llm.forward(embeddings, mask=batch.mask, prefix=prefix, at=batch.slots)


def answer_loss(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    answers: Sequence[Ids],
    *,
    embeddings: Callable[[PromptBatch], Tensor],
    head: Prefix | None = None,
) -> Tensor:
    """Returns the mean negative log-likelihood of the tokens of answers; gradients flow.

    Args:
        llm: The language model.
        prompts: The prompts.
        answers: The tokens after each; none where there is nothing to learn.
        embeddings: Gives the embeddings of prompts and answers together.
        head: What all prompts begin with, from :func:`read_head`.
    """
    skip = 0 if head is None else head.length
    places, wanted = [], []
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start = len(prompt) - skip - 1
        places += [(row, start + step) for step in range(len(answer))]
        wanted += list(answer)
    whole = [prompt.continued(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    batch = collate(whole, pad_id=llm.pad_id, skip=skip)
    hidden = llm.forward(embeddings(batch), mask=batch.mask, prefix=head)
    if not wanted:
        return hidden.sum() * 0
    rows, columns = torch.tensor(places, device=hidden.device).T
    ids = torch.tensor(wanted, device=hidden.device)
    return -llm.log_likelihood(hidden[rows, columns], ids).mean()


def log_prob(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Ids]],
    *,
    embeddings: Callable[[PromptBatch, Rows], Tensor] | None = None,
    head: Prefix | None = None,
    max_tokens: int = MAX_TOKENS,
    log: Callable[[str], None] | None = None,
    progress: Callable[[str, int], AbstractContextManager[Advance]] | None = None,
) -> list[FloatArray]:
    """Scores candidates by the mean log-probability of their tokens after a prompt.

    Each prompt is read once. All its candidates then follow in one row, where a candidate sees
    the prompt and itself, so nothing is read twice. Rows of similar length are read together.

    Args:
        llm: The language model.
        prompts: One for each user.
        answers: For each user, the tokens of each candidate, at least one token each.
        embeddings: Gives a batch's embeddings if prompts have soft tokens, from the batch and the
            indices of its prompts.
        head: What all prompts begin with, from :func:`read_head`; it is read for each otherwise.
        max_tokens: Most tokens of one pass.
        log: Told when memory runs out and batches are halved.
        progress: Opens a progress bar over users.

    Returns:
        For each user the candidates' scores, ``(C,)`` float32, at most 0.

    Raises:
        StageError: If memory runs out for half a batch too.
        ValueError: If a candidate has no token.
    """
    if any(not len(answer) for row in answers for answer in row):
        raise ValueError("a candidate without a token has no probability")
    if embeddings is None and any(prompt.soft for prompt in prompts):
        raise ValueError("prompts with soft tokens need embeddings")
    skip = 0 if head is None else head.length
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts and candidates of {len(answers)} users")
    lengths = [len(prompt) - skip for prompt in prompts]

    @torch.no_grad()
    def compute(rows: Rows) -> list[FloatArray]:
        batch = collate([prompts[i] for i in rows], pad_id=llm.pad_id, skip=skip)
        words = llm.embed(batch.ids) if embeddings is None else embeddings(batch, rows)
        if batch.ids.shape[1]:
            start = llm.prefill(words, mask=batch.mask, prefix=head)
        else:
            assert head is not None  # without one, no prompt is empty
            start = head.expanded(len(rows))
        return _packed(llm, start, [answers[i] for i in rows], max_tokens)

    found: list[FloatArray] = [np.empty(0, np.float32)] * len(prompts)
    bar = nullcontext(_silent) if progress is None else progress("scoring", len(prompts))
    with bar as advance:
        groups = by_length(lengths, max_tokens=max_tokens, before=skip)
        for rows, scores in compute_batches(groups, compute, log=log or _silent, place=_name(llm)):
            for row, values in zip(rows, scores, strict=True):
                found[row] = values
            advance(len(rows))
    return found


def log_prob_of_full_sequences(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Ids]],
    *,
    max_tokens: int = MAX_TOKENS,
) -> list[FloatArray]:
    """Scores as :func:`log_prob` does, by reading prompt and candidate anew for each candidate.

    The reference of tests and benchmarks: slow and plain.
    """
    found = [np.empty(len(row), np.float32) for row in answers]
    pairs = [(i, j) for i, row in enumerate(answers) for j in range(len(row))]
    lengths = [len(prompts[i]) + len(answers[i][j]) for i, j in pairs]
    with torch.no_grad():
        for rows in by_length(lengths, max_tokens=max_tokens):
            chosen = [pairs[row] for row in rows]
            whole = [
                Prompt(
                    np.concatenate([prompts[i].ids, np.asarray(answers[i][j])]),
                    soft={}, spans={}, slots=np.empty(0, np.int64),
                )
                for i, j in chosen
            ]  # fmt: skip
            batch = collate(whole, pad_id=llm.pad_id)
            hidden = llm.forward(llm.embed(batch.ids), mask=batch.mask)
            for number, (i, j) in enumerate(chosen):
                start, tokens = len(prompts[i]) - 1, torch.as_tensor(answers[i][j])
                states = hidden[number, start : start + len(tokens)]
                found[i][j] = float(llm.log_likelihood(states, tokens).mean())
    return found


def _packed(
    llm: LanguageModel, start: Prefix, answers: Sequence[Sequence[Ids]], max_tokens: int
) -> list[FloatArray]:
    """Scores the candidates that follow each row of a prefix."""
    parts = [_split(row, max_tokens) for row in answers]
    found: list[list[FloatArray]] = [[] for _ in answers]
    for turn in range(max(map(len, parts), default=0)):
        here = [row for row, pieces in enumerate(parts) if turn < len(pieces)]
        lengths = [sum(len(answer) - 1 for answer in parts[row][turn]) for row in here]
        for group in by_length(lengths, max_tokens=max_tokens, before=start.length):
            rows = [here[place] for place in group]
            prefix = start.take(torch.tensor(rows, dtype=torch.long))
            asked = [parts[row][turn] for row in rows]
            for row, scores in zip(rows, _packed_once(llm, prefix, asked), strict=True):
                found[row].append(scores)
    return [np.concatenate([np.empty(0, np.float32), *pieces]) for pieces in found]


def _packed_once(
    llm: LanguageModel, prefix: Prefix, answers: Sequence[Sequence[Ids]]
) -> list[FloatArray]:
    """Reads each row's candidates one after another; each sees the prefix and itself alone.

    The last token of a candidate predicts nothing that is asked for, so it is not read.
    """
    read = [[answer[:-1] for answer in row] for row in answers]
    length = max(sum(map(len, row)) for row in read)
    ids = np.full((len(read), length), llm.pad_id, dtype=np.int64)
    owner = np.full((len(read), length), -1, dtype=np.int64)
    offset = np.zeros((len(read), length), dtype=np.int64)
    for number, row in enumerate(read):
        flat = np.concatenate([np.empty(0, np.int64), *(np.asarray(a, np.int64) for a in row)])
        sizes = [len(answer) for answer in row]
        ids[number, : len(flat)] = flat
        owner[number, : len(flat)] = np.repeat(np.arange(len(row)), sizes)
        if len(flat):
            offset[number, : len(flat)] = np.concatenate([np.arange(size) for size in sizes])
    hidden = _read_apart(llm, prefix, torch.from_numpy(ids), owner, offset) if length else None
    # The prompt's last state predicts every first token, each token that was read the next one.
    first = torch.log_softmax(llm.logits(prefix.last), dim=-1).cpu()  # (batch, vocabulary)
    return [
        _means(llm, first[number], None if hidden is None else hidden[number], row)
        for number, row in enumerate(answers)
    ]


def _means(
    llm: LanguageModel, first: Tensor, hidden: Tensor | None, answers: Sequence[Ids]
) -> FloatArray:
    """Returns the mean log-probability of each candidate's tokens, ``(C,)``."""
    if not len(answers):
        return np.empty(0, np.float32)
    sizes = torch.tensor([len(answer) for answer in answers])
    sums = first[torch.tensor([answer[0] for answer in answers])].double()
    later = [token for answer in answers for token in answer[1:]]
    if later:
        assert hidden is not None  # whatever has a later token was read
        values = llm.log_likelihood(hidden[: len(later)], torch.tensor(later)).cpu()
        groups = torch.repeat_interleave(torch.arange(len(answers)), sizes - 1)
        sums.index_add_(0, groups, values.double())
    means: FloatArray = (sums / sizes).float().numpy()
    return means


def _read_apart(llm: LanguageModel, prefix: Prefix, ids: Tensor, owner: Any, offset: Any) -> Tensor:
    """Returns hidden states of candidates that stand side by side and do not see each other."""
    device = prefix.mask.device
    owners, offsets = torch.from_numpy(owner).to(device), torch.from_numpy(offset).to(device)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    among = (owners[:, :, None] == owners[:, None, :]) & causal
    before = prefix.mask[:, None, :].expand(-1, length, -1)
    return llm.forward(
        llm.embed(ids),
        mask=torch.cat([before, among], dim=2),
        prefix=prefix,
        positions=prefix.lengths[:, None] + offsets,
    )


def _split(answers: Sequence[Ids], max_tokens: int) -> list[Sequence[Ids]]:
    """Splits a row's candidates so that each part is read at once."""
    parts: list[list[Ids]] = []
    tokens = 0
    for answer in answers:
        if not parts or tokens + len(answer) > max_tokens:
            parts.append([])
            tokens = 0
        parts[-1].append(answer)
        tokens += len(answer)
    return list(parts)


def _name(llm: LanguageModel) -> str:
    return str(getattr(llm, "name", "the language model"))


def _silent(*_: object) -> None:
    """Says nothing."""


__all__ = [
    "HOLE",
    "MAX_TOKENS",
    "answer_loss",
    "log_prob",
    "log_prob_of_full_sequences",
    "read_head",
    "slot_states",
]
