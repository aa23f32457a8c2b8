"""Weights of scores, fitted on validation users; 0 where nothing is gained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.language.retrieval import Asked, Retrieval, ndcg_among
from dynmm_framework.latents.blend import fit_mixture
from dynmm_framework.protocols import Context, FloatArray, IntArray, Validator
from dynmm_plugins.soft_prompt.config import SoftPromptConfig

LEAST_TARGETS = 20
"""Fewest validation targets among the retrieved items to fit γ and η on."""
FOLDS = 5
"""Parts of the validation users; each is ranked by weights that were fitted on the others."""


@dataclass(frozen=True)
class Mixture:
    """Weights of the parts of a score.

    Attributes:
        retrieval: Of what retrieves.
        evidence: η, of the evidence's own head.
        language_model: γ, of the language model, or of the control in its place.
    """

    retrieval: float = 1.0
    evidence: float = 0.0
    language_model: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether the order can be another than retrieval's."""
        return bool(self.evidence or self.language_model)


@dataclass(frozen=True)
class Gain:
    """What a further score adds to one that is there.

    Attributes:
        weights: Of the score that is there and of the further one, fitted on all users.
        before: Mean NDCG without the further score.
        after: With it, each user ranked by weights that were fitted on others.
        error: Standard error of the difference.
        alone: Mean NDCG of the further score alone.
    """

    weights: tuple[float, float]
    before: float
    after: float
    error: float
    alone: float

    @property
    def clear(self) -> bool:
        """Whether the gain is larger than its standard error, and the weight positive."""
        return self.weights[1] > 0 and self.after - self.before > self.error

    @property
    def objection(self) -> str:
        """Why the weight is 0 where the gain is not clear, for the log."""
        if self.weights[1] <= 0:
            return "the fitted weight is not positive: the score would count the wrong way round"
        return "there is no clear gain"

    @property
    def told(self) -> str:
        """The gain in words, for the log."""
        return (
            f"NDCG among the retrieved {self.after:.4f} against {self.before:.4f} without, "
            f"standard error {self.error:.4f}"
        )

    def record(self) -> Mapping[str, float]:
        """Returns the figures by name, for the stage's record."""
        return {
            "fitted_weight": self.weights[1],
            "ndcg_before": self.before,
            "ndcg_held_out": self.after,
            "standard_error_of_the_gain": self.error,
            "ndcg_alone": self.alone,
        }


def retrieved_users(
    validator: Validator, retrieval: Retrieval, config: SoftPromptConfig, ctx: Context
) -> tuple[Validator, Asked, NDArray[np.int64]] | None:
    """Returns the validation users whose target is retrieved, and which of them are asked.

    The others tell nothing. The evidence's weight is fitted on all, the language model's on as
    many as it can be asked about. ``None`` if they are too few for either.
    """
    evaluation = validator.evaluation
    targets = np.full(len(evaluation.histories), -1, np.int64)
    targets[evaluation.targets.rows] = evaluation.targets.items  # of several, the last
    size = min(config.candidates, len(retrieval.items))
    asked = retrieval.asked(evaluation.histories, size, targets=targets)
    rows = np.flatnonzero(asked.targets >= 0)
    told = f"of {len(targets):,} validation users {len(rows):,} have their target retrieved"
    if len(rows) < LEAST_TARGETS:
        ctx.log(f"{told}, too few to fit γ: it stays 0 and the order is retrieval's")
        return None
    sample, limit = np.arange(len(rows)), config.validation_users
    if len(rows) > limit:
        drawn = ctx.rng("validation users").choice(rows, limit, replace=False)
        sample = np.searchsorted(rows, np.sort(drawn))
        told += f", {limit:,} of which are asked"
    ctx.log(told)
    return validator.take(rows[sample]), asked.take(rows), sample


def measure_gain(
    present: NDArray[Any],
    further: NDArray[Any],
    targets: NDArray[np.int64],
    *,
    rng: np.random.Generator,
) -> Gain:
    """Fits the weight of a further score, and tells what users that it was not fitted on gain.

    A gain counts if it is larger than its standard error: on a hundred users, noise gains on the
    users it is fitted on about every other time.

    Args:
        present: The score so far, ``(n, C)``.
        further: The score to add, ``(n, C)``.
        targets: Place of each target, ``(n,)``.
        rng: Draws the folds.
    """
    held_out = np.empty(len(targets))
    for fold in np.array_split(rng.permutation(len(targets)), FOLDS):
        rest = np.setdiff1d(np.arange(len(targets)), fold)
        first, second = _fitted(present[rest], further[rest], targets[rest])
        held_out[fold] = ndcg_among(first * present[fold] + second * further[fold], targets[fold])
    plain = ndcg_among(present, targets)
    gains = held_out - plain
    return Gain(
        weights=_fitted(present, further, targets),
        before=float(plain.mean()),
        after=float(held_out.mean()),
        error=float(gains.std(ddof=1) / len(gains) ** 0.5),
        alone=float(ndcg_among(further, targets).mean()),
    )


def _fitted(
    present: NDArray[Any], further: NDArray[Any], targets: NDArray[np.int64]
) -> tuple[float, float]:
    """Returns both weights, the first at least 0: a better score may replace what is there."""
    first, second = fit_mixture([present, further], targets, start=[1.0, 0.1])
    return max(float(first), 0.0), float(second)


def add_evidence(
    asked: Asked, scores: NDArray[Any], *, rng: np.random.Generator, ctx: Context
) -> Mixture:
    """Fits η on validation users, over retrieval alone.

    Args:
        asked: The users, each with its target.
        scores: Of the evidence's own head, ``(n, C)``.
        rng: Draws the folds.
        ctx: Log and records of the stage.
    """
    gain = measure_gain(asked.base, scores, asked.targets, rng=rng)
    found = Mixture(*gain.weights) if gain.clear else Mixture()
    ctx.record(
        "evidence_head", {"validation_targets": len(asked), "eta": found.evidence, **gain.record()}
    )
    if gain.clear:
        ctx.log(f"η {_share(gain.weights)}; {gain.told}")
    else:
        ctx.log(f"η is 0, as {gain.objection}; {gain.told}")
    return found


@dataclass(frozen=True, slots=True)
class PromptLength:
    """What a prompt costs: the columns of the paper's table 5.

    Attributes:
        history: Most items of a history, a soft token each (L).
        evidence: Soft tokens of the evidence (E).
        tokens: Mean tokens of each segment of a prompt; empty without a language model.
        batch: Prompts of a batch.
        seconds_a_batch: Time in which so many are scored, finding their evidence not counted.
    """

    history: int
    evidence: int
    tokens: Mapping[str, float]
    batch: int
    seconds_a_batch: float

    def record(self) -> dict[str, Any]:
        """Returns what the stage's record keeps of it."""
        return {
            "soft_tokens": {"history": self.history, "evidence": self.evidence},
            "tokens_of_a_prompt": dict(self.tokens),
            "batch": self.batch,
            "seconds_a_batch": self.seconds_a_batch,
        }

    def told(self) -> str:
        """Says it in one line."""
        total = sum(self.tokens.values())
        return (
            f"L = {self.history}, E = {self.evidence}: {total:,.0f} tokens a prompt, "
            f"{self.seconds_a_batch:.3g} s for {self.batch:,} prompts"
        )


def add_language_model(
    present: Mixture,
    asked: Asked,
    *,
    before: NDArray[Any],
    scores: NDArray[Any],
    rng: np.random.Generator,
    ctx: Context,
    length: PromptLength,
) -> Mixture:
    """Fits γ on validation users, over what there is.

    Args:
        present: Weights of what there is.
        asked: The users, each with its target.
        before: What there is: their weighted sum, ``(n, C)``.
        scores: Of the language model, ``(n, C)``.
        rng: Draws the folds.
        ctx: Log and records of the stage.
        length: What the prompts hold and cost; recorded, and told with what they gave.
    """
    gain = measure_gain(before, scores, asked.targets, rng=rng)
    over = "retrieval and evidence" if present.evidence else "retrieval"
    ctx.record(
        "prompt",
        {
            "validation_targets": len(asked),
            "gamma": gain.weights[1] if gain.clear else 0.0,
            "eta": present.evidence,
            "added_to": over,
            "ndcg_of_retrieval": float(ndcg_among(asked.base, asked.targets).mean()),
            **gain.record(),
            **length.record(),
        },
    )
    if length.tokens:
        ctx.log(
            f"{length.told()}; NDCG among the retrieved: {over} {gain.before:.4f}, with the "
            f"language model {gain.after:.4f}, the language model alone {gain.alone:.4f}"
        )
    if not gain.clear:
        ctx.log(f"γ is 0, as {gain.objection}; {gain.told}; the order is that of {over}")
        return present
    ctx.log(f"γ {_share(gain.weights)}; {gain.told}")
    first, second = gain.weights
    return Mixture(present.retrieval * first, present.evidence * first, second)


def _share(weights: tuple[float, float]) -> str:
    first, second = weights
    return f"{second / first:.3g} of the scale of what was there" if first else "instead of that"


def deal_anew(
    out: FloatArray, asked: Asked, mixed: NDArray[Any], *, among: IntArray | None
) -> None:
    """Deals the candidates' scores out anew in the order of the mixture, in place.

    Args:
        out: Retrieval's scores: of the catalogue, ``(n, n_items)``, or of ``among``.
        asked: What was re-ranked.
        mixed: Its order, ``(n, C)``; ties keep retrieval's.
        among: The items of ``out``, ``(n, m)``; ``None`` for the whole catalogue.
    """
    order = np.argsort(-mixed, axis=1, kind="stable")
    dealt = np.empty_like(asked.base)
    np.put_along_axis(dealt, order, -np.sort(-asked.base, axis=1), axis=1)
    if among is None:
        np.put_along_axis(out, asked.candidates.astype(np.int64), dealt, axis=1)
        return
    for row in range(len(asked)):
        given = dict(zip(asked.candidates[row].tolist(), dealt[row].tolist(), strict=True))
        pairs = zip(among[row].tolist(), out[row].tolist(), strict=True)
        out[row] = [given.get(item, score) for item, score in pairs]
