"""Measures of explanations: do they matter to the scores, are they true, are they alike?

None of them asks a person, and none is called human evaluation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynmm_framework.evaluation.significance import Comparison, compare

Values = NDArray[np.float64]


# Faithfulness.


def target_probability(scores: ArrayLike, columns: ArrayLike) -> Values:
    """Returns A: the softmax probability of one candidate among all, for each row, ``(n,)``.

    Args:
        scores: ``(n, C)``; ``-inf`` where there is no candidate.
        columns: Place of the candidate, ``(n,)``.
    """
    table = np.asarray(scores, np.float64)
    shifted = np.exp(table - table.max(axis=1, keepdims=True))
    chosen = np.asarray(columns, np.int64)
    found: Values = shifted[np.arange(len(table)), chosen] / shifted.sum(axis=1)
    return found


@dataclass(frozen=True, eq=False)
class Removals:
    """A of each pair with all its evidence, without some of it, and with some of it alone.

    Attributes:
        whole: With everything, ``(n,)``.
        none: Without any evidence.
        without_cited: Without what the pair's explanation may cite.
        cited_alone: With that alone.
        without_random: Without as many records drawn at random.
        random_alone: With those alone.
        users: Which user each pair is of, ``(n,)``: pairs of one user are averaged before tests.
    """

    whole: Values
    none: Values
    without_cited: Values
    cited_alone: Values
    without_random: Values
    random_alone: Values
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def comprehensiveness(self) -> Values:
        """Drop in A when the cited evidence is removed; large is faithful."""
        return self.whole - self.without_cited

    @property
    def sufficiency(self) -> Values:
        """Drop in A when the cited evidence is kept alone; small is faithful."""
        return self.whole - self.cited_alone


def faithfulness(removals: Removals) -> dict[str, Any]:
    """Summarises removals: means, and paired tests over users against random evidence.

    Returns:
        Means of every quantity, and under ``tests`` the comparison of cited with random evidence
        for comprehensiveness (cited should drop more) and sufficiency (cited should drop less).
    """
    of_random = {
        "comprehensiveness": removals.whole - removals.without_random,
        "sufficiency": removals.whole - removals.random_alone,
    }
    cited = {
        "comprehensiveness": removals.comprehensiveness,
        "sufficiency": removals.sufficiency,
    }
    means = {name: _mean(values) for name, values in cited.items()}
    means |= {f"{name}_random": _mean(values) for name, values in of_random.items()}
    means["gain"] = _mean(removals.whole - removals.none)
    return {
        "pairs": len(removals),
        "users": len(np.unique(removals.users)),
        **means,
        "tests": {
            name: _test(
                by_user(cited[name], removals.users), by_user(of_random[name], removals.users)
            )
            for name in cited
        },
    }


def by_user(values: ArrayLike, users: ArrayLike) -> Values:
    """Returns the mean of each user's values, in the order of users' numbers."""
    given, owner = np.asarray(values, np.float64), np.asarray(users)
    _, places = np.unique(owner, return_inverse=True)
    out: Values = np.bincount(places, weights=given) / np.maximum(np.bincount(places), 1)
    return out


def _test(a: Values, b: Values) -> dict[str, Any]:
    found: Comparison = compare([a], [b])
    kept = ("difference", "ci_low", "ci_high", "t_p", "wilcoxon_p", "cohens_dz", "n")
    return {name: _finite(value) for name, value in asdict(found).items() if name in kept}


# Truth, likeness, breadth.


def hallucination(before: Sequence[int], after: Sequence[int]) -> dict[str, float | None]:
    """Shares of sentences with a claim that the evidence does not hold.

    Args:
        before: Unsupported claims of each sentence as it was first written.
        after: The same of each sentence as it is shown.
    """
    return {
        "before_checking": _mean([count > 0 for count in before]),
        "after_checking": _mean([count > 0 for count in after]),
        "claims_before_checking": _mean(before),
    }


def jaccard(a: Collection[Hashable], b: Collection[Hashable]) -> float:
    """Returns the share of what two collections have in common; 1 for two empty ones."""
    first, second = set(a), set(b)
    return len(first & second) / len(first | second) if first | second else 1.0


def coverage(cited: Iterable[Iterable[Hashable]]) -> float | None:
    """Returns the share of recommendations whose sentence rests on any evidence."""
    return _mean([bool(list(ids)) for ids in cited])


def diversity(cited: Iterable[Iterable[Hashable]]) -> dict[str, float | None]:
    """Tells how varied is what explanations cite.

    Args:
        cited: What each explanation cites, named alike wherever it is the same thing.

    Returns:
        ``distinct``: different things over all that is cited; ``entropy``: of their frequencies,
        over the most that it could be; ``top``: share of the one that is cited most.
    """
    counts = Counter(thing for ids in cited for thing in ids)
    total = sum(counts.values())
    if not total:
        return {"distinct": None, "entropy": None, "top": None}
    shares = [count / total for count in counts.values()]
    entropy = -sum(share * math.log(share) for share in shares)
    return {
        "distinct": len(counts) / total,
        "entropy": entropy / math.log(total) if total > 1 else 1.0,
        "top": max(shares),
    }


# Texts.


def rouge_l(text: str, reference: str) -> float:
    """Returns ROUGE-L's F measure of two texts (Lin, 2004): by their longest common subsequence.

    Words are runs of letters and digits, without case.
    """
    first, second = _words(text), _words(reference)
    common = _longest_common(first, second)
    if not common:
        return 0.0
    precision, recall = common / len(first), common / len(second)
    return 2 * precision * recall / (precision + recall)


def bleu4(texts: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Returns corpus BLEU-4 in 0 … 100, by sacrebleu, and the signature that makes it repeatable.

    Args:
        texts: The sentences.
        references: One for each.

    Raises:
        StageError: If sacrebleu is not installed.
    """
    from dynmm_framework.errors import StageError

    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise StageError(
            "BLEU needs sacrebleu, which is not installed",
            hint="Install it: pip install 'dynmm-framework[explain]'.",
        ) from error
    metric = BLEU(effective_order=False)
    score = metric.corpus_score(list(texts), [list(references)])
    return {"bleu4": float(score.score), "signature": str(metric.get_signature())}


def text_metrics(
    texts: Sequence[str], references: Sequence[str], *, written_by: str
) -> dict[str, Any]:
    """Compares sentences with references, one for each.

    Args:
        texts: The sentences.
        references: What others wrote about the same pairs.
        written_by: Who wrote the references: ``people`` or ``a language model``.
    """
    return {
        "texts": len(texts),
        "references_written_by": written_by,
        "rouge_l": _mean([rouge_l(a, b) for a, b in zip(texts, references, strict=True)]),
        **(bleu4(texts, references) if texts else {"bleu4": None}),
    }


def _words(text: str) -> list[str]:
    import re

    return re.findall(r"[^\W_]+", text.casefold())


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence; time |first| · |second|."""
    if not first or not second:
        return 0
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def _mean(values: Iterable[float] | Values) -> float | None:
    kept = [float(value) for value in values]
    return float(np.mean(kept)) if kept else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(reasons: Iterable[str]) -> Mapping[str, int]:
    """Returns how often each reason occurs, the most frequent first; empty ones are none."""
    return dict(Counter(reason for reason in reasons if reason).most_common())
