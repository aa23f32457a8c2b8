"""What is trained of a soft prompt: projectors, readers of evidence, heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.protocols import FloatArray, LanguageModel
from dynmm_plugins.soft_prompt.records import NUMBERS, Records

UNTRAINED = -3.0
"""What every record says before training: a part of .05, small beside retrieval's scores."""
CHUNK_USERS = 256
"""Users whose records are scored at once."""


class Projector(nn.Module):
    """A two-layer map from latents to soft tokens, each as long as a word's embedding is.

    Args:
        dim: Width of latents.
        hidden: Inner width.
        llm: Gives the width of tokens and their mean norm.
    """

    def __init__(self, dim: int, hidden: int, llm: LanguageModel) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, llm.hidden_size)
        )
        self.norm = llm.embedding_norm()

    def forward(self, latents: Tensor, further: Tensor | float = 0.0) -> Tensor:
        """Maps ``(…, dim)`` to ``(…, hidden_size)``, of which ``further`` is a part too."""
        return self.norm * F.normalize(self.layers(latents) + further, dim=-1)


class SlotHead(nn.Module):
    """Scores of hidden states; all 0 until trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        _zero(self.score)

    def forward(self, states: Tensor) -> Tensor:
        """Maps ``(…, width)`` to ``(…)``."""
        out: Tensor = self.score(self.norm(states.float()))
        return out[..., 0]


class DirectHead(nn.Module):
    """Scores of the same inputs without a language model: the control. All 0 until trained.

    Args:
        users: Width of the users' latents.
        items: Width of the items' latents.
        hidden: Inner width.
        evidence: Width of each candidate's evidence; 0 without any.
    """

    def __init__(self, users: int, items: int, hidden: int, *, evidence: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(users + 3 * items + 2 * evidence, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        _zero(self.layers[-1])

    def forward(
        self, users: Tensor, past: Tensor, items: Tensor, evidence: Tensor | None = None
    ) -> Tensor:
        """Scores candidates.

        Args:
            users: ``(n, users)``.
            past: Mean latent of each history, ``(n, items)``.
            items: Latents of the candidates, ``(n, C, items)``.
            evidence: That of each candidate, ``(n, C, evidence)``.

        Returns:
            ``(n, C)``.
        """
        inputs = [users[:, None], items, past[:, None], items.mean(dim=1, keepdim=True)]
        if evidence is not None:
            inputs += [evidence, evidence.mean(dim=1, keepdim=True)]
        wide = [part.expand(-1, items.shape[1], -1) for part in inputs]
        out: Tensor = self.layers(torch.cat(wide, dim=-1))
        return out[..., 0]


class RecordEncoder(nn.Module):
    """Encodes each record by its numbers, what it cites, and the candidate.

    It begins with the numbers alone: vectors come in as they lower the loss.

    Args:
        dim: Width of the items' latents, in which what is cited has its vectors.
        owners: Number of extractors; each has numbers of its own scale and meaning.
        width: Width of an encoded record.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, owners: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.numbers = nn.Linear(owners * (1 + NUMBERS), width)
        self.cited = nn.Linear(dim, width, bias=False)
        self.candidate = nn.Linear(dim, width, bias=False)
        nn.init.zeros_(self.cited.weight)
        nn.init.zeros_(self.candidate.weight)
        self.register_buffer("mean", torch.zeros(owners, NUMBERS))
        self.register_buffer("scale", torch.ones(owners, NUMBERS))

    def measure(self, records: Records) -> None:
        """Takes mean and standard deviation of each extractor's numbers from training records."""
        for owner in range(len(self.mean)):
            numbers = records.numbers[records.present & (records.owners == owner)]
            if len(numbers):
                spread = numbers.std(axis=0)
                self.mean[owner] = torch.from_numpy(numbers.mean(axis=0))
                self.scale[owner] = torch.from_numpy(
                    np.where(spread > 1e-6, spread, np.float32(1)).astype(np.float32)
                )

    def forward(self, records: Records, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes records.

        Args:
            records: ``n`` users, ``C`` candidates, ``K`` records at most.
            candidates: Standardised latents, ``(n, C, dim)``.

        Returns:
            ``(n, C, K, width)``, zeros where there is no record; and where there is one,
            ``(n, C, K)`` bool.
        """
        device = self.mean.device
        present = torch.from_numpy(records.present).to(device)
        owners = torch.from_numpy(records.owners.astype(np.int64)).to(device)
        numbers = torch.from_numpy(records.numbers).to(device)
        scaled = (numbers - self.mean[owners]) / self.scale[owners]
        ones = torch.ones_like(scaled[..., :1])
        which = F.one_hot(owners, len(self.mean)).to(scaled)
        # (n, C, K, owners, 1 + NUMBERS): an extractor's numbers stand in its own place.
        own = which[..., None] * torch.cat([ones, scaled], dim=-1)[..., None, :]
        cited = torch.from_numpy(records.vectors).to(device)
        mixed = self.numbers(own.flatten(-2)) + self.cited(cited)
        mixed = torch.relu(mixed + self.candidate(candidates)[:, :, None])
        return mixed * present[..., None], present


class EvidenceHead(nn.Module):
    """Scores candidates by their records alone: the sum of what each says for them.

    No record speaks against its candidate, and one without records has score 0. So taking a record
    away takes exactly its part away, and never helps: what a record says would else be known only
    up to a constant wherever all candidates have equally many.

    Args:
        dim: Width of the items' latents.
        owners: Number of extractors.
        width: Inner width.
    """

    def __init__(self, dim: int, owners: int, width: int) -> None:
        super().__init__()
        self.records = RecordEncoder(dim, owners, width)
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.constant_(self.score.bias, UNTRAINED)

    def parts(self, records: Records, candidates: Tensor) -> Tensor:
        """Returns each record's part of its candidate's score, ``(n, C, K)``."""
        encoded, present = self.records(records, candidates)
        said: Tensor = F.softplus(self.score(encoded)[..., 0]) * present
        return said

    def forward(self, records: Records, candidates: Tensor) -> Tensor:
        """Returns ``(n, C)``."""
        return self.parts(records, candidates).sum(dim=-1)

    @torch.no_grad()
    def all_parts(self, records: Records, candidates: FloatArray) -> FloatArray:
        """Returns :meth:`parts` for any number of users, ``(n, C, K)``.

        Args:
            records: Their records.
            candidates: Standardised latents of their candidates, ``(n, C, dim)``.
        """
        device: Any = self.score.weight.device
        out = np.zeros(records.places.shape, np.float32)
        for start in range(0, len(records), CHUNK_USERS):
            part = slice(start, start + CHUNK_USERS)
            latents = torch.from_numpy(np.ascontiguousarray(candidates[part])).to(device)
            out[part] = self.parts(records.take(part), latents).cpu().numpy()
        return out


class EvidenceTokens(nn.Module):
    """All records of a user as a fixed number of soft tokens, by attention of learned queries.

    However many records there are, none is cut off: each token is a mean of them all. What the
    queries find where there is nothing to attend to is a learned vector that is always among the
    records, so a prompt without evidence is as long as one with it.

    Args:
        width: Width of encoded records.
        tokens: Number of soft tokens.
        hidden: Inner width of the projector.
        llm: Gives the width of tokens and their mean norm.
    """

    def __init__(self, width: int, tokens: int, hidden: int, llm: LanguageModel) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, width))
        self.nothing = nn.Parameter(torch.randn(width))
        self.keys = nn.Linear(width, width, bias=False)
        self.values = nn.Linear(width, width)
        self.out = Projector(width, hidden, llm)

    def forward(self, encoded: Tensor, present: Tensor) -> Tensor:
        """Maps records ``(n, C, K, width)`` and where they are to ``(n, tokens, hidden_size)``."""
        n, width = len(encoded), encoded.shape[-1]
        records = torch.cat(
            [self.nothing.expand(n, 1, width), encoded.reshape(n, -1, width)], dim=1
        )
        there = F.pad(present.reshape(n, -1), (1, 0), value=True)
        logits = self.queries @ self.keys(records).transpose(1, 2) / width**0.5
        logits = logits.masked_fill(~there[:, None], -torch.inf)  # (n, tokens, 1 + C · K)
        found = self.queries + torch.softmax(logits, dim=-1) @ self.values(records)
        out: Tensor = self.out(found)
        return out


def faithfulness(
    given: Tensor, removed: Tensor, targets: Tensor, *, margin: float, as_printed: bool = False
) -> Tensor:
    """Returns L_faith: 0 where its evidence raises a target's probability by ``margin`` or more.

    ``max(0, δ − (A(E) − A(∅)))``, A the softmax probability of the target among the candidates, E
    the target's evidence. A(∅) is constant, or else the loss would be lowered by ranking worse
    without evidence. The paper prints ``max(0, A(E) − A(∅) − δ)``, which punishes evidence that
    helps.

    Args:
        given: Scores with all evidence, ``(n, C)``.
        removed: Scores without the target's, ``(n, C)``; no gradient flows there.
        targets: Place of the target, ``(n,)``.
        margin: δ.
        as_printed: The paper's sign.
    """
    rows = torch.arange(len(targets), device=given.device)
    with_evidence = torch.softmax(given, dim=-1)[rows, targets]
    gained = with_evidence - torch.softmax(removed.detach(), dim=-1)[rows, targets]
    return torch.relu(gained - margin if as_printed else margin - gained).mean()


def _zero(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
