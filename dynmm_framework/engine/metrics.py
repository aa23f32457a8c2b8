"""The document ``metrics.json``: every number of a run, with its protocol and its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from dynmm_framework.config.blocks import Block

if TYPE_CHECKING:
    from dynmm_framework.evaluation.significance import Comparison as PairedTest

Interval = tuple[float, float]


class MetricValue(Block):
    """One metric of one recommender under one protocol."""

    mean: float | None
    """Mean over users, then over seeds; null if it is undefined, as AUC of a full list can be."""
    ci95: Interval | None = None
    """Bootstrap 95 % confidence interval over users of the mean over seeds."""
    per_seed: dict[str, float | None]
    """Mean over users for each model seed."""


class Comparison(Block):
    """A paired comparison of two recommenders on the same users."""

    protocol: str
    metric: str
    a: str
    """The pipeline's recommender."""
    b: str
    """What it is compared with."""
    difference: float
    """Mean over users of ``a - b``."""
    ci95: Interval | None
    p_t: float | None
    """Two-sided paired t-test."""
    p_wilcoxon: float | None
    """Wilcoxon signed-rank test."""
    p_adjusted: float | None
    """``p_t`` after Holm's correction over the comparisons of this protocol and metric."""
    cohens_dz: float | None
    """Standardised mean difference of the pairs."""
    n: Annotated[int, Field(ge=0)]
    """Number of users."""

    @classmethod
    def of(
        cls, found: PairedTest, *, protocol: str, metric: str, a: str, b: str, p_adjusted: float
    ) -> Comparison:
        """Returns a test of ``a`` against ``b`` as it is stored: what is not finite is null."""
        return cls(
            protocol=protocol,
            metric=metric,
            a=a,
            b=b,
            difference=found.difference,
            ci95=interval((found.ci_low, found.ci_high)),
            p_t=finite(found.t_p),
            p_wilcoxon=finite(found.wilcoxon_p),
            p_adjusted=finite(p_adjusted),
            cohens_dz=finite(found.cohens_dz),
            n=found.n,
        )


def finite(value: float | None) -> float | None:
    """Returns a number as JSON can hold it: null if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def interval(bounds: Interval) -> Interval | None:
    """Returns an interval as JSON can hold it: null if a bound is not finite."""
    low, high = bounds
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


class Efficiency(Block):
    """What a recommender cost; means over seeds, of the computation that was really done."""

    fit_seconds: float
    rank_seconds: float
    latency_ms_p50: float | None
    """Median time to score all items for one user."""
    latency_ms_p95: float | None
    peak_rss_bytes: int | None
    """Largest resident memory of the process up to the end of training."""
    peak_gpu_bytes: int | None = None


class Missing(Block):
    """The alignment with modalities missing, under one protocol; means over seeds."""

    protocol: str = "full"
    dropped: list[str]
    """Modalities that were taken away; none in the row of the whole."""
    share: float
    """Share of the items that lost them."""
    values: dict[str, float | None]
    """Metrics."""


class Forgetting(Block):
    """NDCG@10 on a sample from before the stream that nothing was ever learned from."""

    before: float
    """By the state before the stream."""
    after: float
    """By the state after it."""
    ci95: tuple[float, float] | None = None
    """Of the difference after - before, over the events of the sample."""
    during: list[float] = []
    """After each of the windows ``StreamResults.probed``."""


class StreamResults(Block):
    """What a stream gave: every window predicted before it was learned, means over seeds."""

    windows: int
    events: int
    """Events that were predicted."""
    skipped: dict[str, int]
    """Events that were not, by reason, and those that came late."""
    strategies: dict[str, dict[str, MetricValue]]
    """By strategy and metric: mean over all events; intervals are over windows. The first one is
    the adapter as it is served."""
    comparisons: list[Comparison]
    """Paired windows; ``n`` counts windows."""
    curves: dict[str, list[float]]
    """Cumulative NDCG@10 after each window."""
    drift: list[int]
    """Windows in which ADWIN gave an alarm for the first strategy, first seed."""
    served: dict[str, dict[str, list[float]]] = {}
    """What guards let through in each window, by strategy: λ as ``correction``, and the parts of
    their weights as ``popularity`` and ``long_term_popularity``."""
    forgetting: dict[str, Forgetting]
    """The users of the sample are met as not having come since."""
    forgetting_as_present: dict[str, Forgetting] = {}
    """On the same sample, its users met as if they had just been there."""
    probed: list[int] = []
    """Windows after which the sample of ``forgetting`` was scored."""
    cost: dict[str, float] = {}
    """Processor seconds to learn the stream, by strategy; what all share is in none."""
    update_ms: float
    """Median milliseconds to learn a window, all strategies of the comparison together."""
    seconds: float
    """Wall time of the whole stream, likewise."""


class ExplanationResults(Block):
    """What explanations of one model seed are worth. No person judged them."""

    users: int
    explanations: int
    writer: str
    """Who wrote them: ``template`` or ``language_model``."""
    forms: dict[str, int]
    """Sentences of each form; ``none`` where there was nothing to say."""
    writers: dict[str, int]
    """Sentences shown by who wrote them, those that gave way to a template's counted there."""
    coverage: float | None
    """Share of recommendations whose sentence rests on evidence."""
    diversity: dict[str, float | None]
    """Of what is cited: ``distinct`` things over all, ``entropy`` over its most, share of the
    ``top`` one."""
    records: dict[str, float]
    """Mean records of evidence of a recommendation, by extractor."""
    hallucination: dict[str, float | None]
    """Share of sentences with a claim that the evidence does not hold, before and after checking;
    and such claims in a sentence before."""
    fallbacks: dict[str, Any]
    """``rate`` of sentences that gave way to a template's, how many by which ``reasons``, and how
    many more were only written when ``asked_again``, with one reason."""
    consistency: dict[str, Any]
    """Mean ``jaccard`` overlap of what is cited when written again, and what was ``varied``."""
    evidence_ms: float | None
    """Median milliseconds to find the evidence of a user and 20 candidates."""
    writing_ms: float
    """Mean milliseconds to find the evidence of a recommendation and write its sentence."""
    faithfulness: dict[str, Any] | None = None
    """Evidence taken away, for the best ``recommended`` item of each user and for the test
    ``target`` among the candidates: mean drops in its softmax probability without the cited
    evidence (``comprehensiveness``) and with that alone (``sufficiency``), the same for random
    evidence of equal length, and paired tests over users. Random is of the user's other candidates;
    under ``among_own`` of the item itself, against what its explanation shows, with the numbers of
    items that were ``left_out`` or ``shortened`` as they have too few others. Null if no prompt
    reads evidence."""
    texts: dict[str, Any] | None = None
    """BLEU-4 and ROUGE-L against what users wrote of test items."""
    notes: list[str] = []
    """What was not measured, and why."""


class PromptResults(Block):
    """What the prompts of a recommender hold, cost and bring: the record ``prompt`` of its stage.

    Gains are over validation users whose target is among the candidates; means over seeds.
    """

    soft_tokens: dict[str, int]
    """Most soft tokens of a prompt: ``history`` (L) and ``evidence`` (E)."""
    tokens_of_a_prompt: dict[str, float]
    """Mean tokens of each segment; empty without a language model."""
    batch: int
    """Prompts of a batch."""
    seconds_a_batch: float
    """Wall time in which so many are scored."""
    validation_targets: int
    """Users behind the gains, of all seeds."""
    gamma: float
    """Weight of the language model's score; 0 where it adds nothing clear."""
    ndcg_before: float
    """NDCG among the candidates without the language model's score."""
    ndcg_held_out: float
    """With it, each user ranked by a weight that was fitted on others."""
    ndcg_alone: float
    """Of the language model's score alone."""
    standard_error_of_the_gain: float
    """Of ``ndcg_held_out - ndcg_before``."""


class MetricsDocument(Block):
    """``metrics.json``: recommender → protocol → metric in lower case → value."""

    schema_version: Literal[1] = 1
    recommenders: dict[str, dict[str, dict[str, MetricValue]]]
    """By label, protocol (``full``, ``sampled:100``, ``cold:1``) and metric (``ndcg@10``)."""
    chance: dict[str, dict[str, float]] = {}
    """Expected value of a random ranking, by protocol and metric, where there is a closed form."""
    comparisons: list[Comparison] = []
    robustness: list[Missing] = []
    """The alignment with modalities missing, if the pipeline asks for it."""
    stream: StreamResults | None = None
    """Online adaptation, if the pipeline asks for it."""
    explanations: dict[str, ExplanationResults] = {}
    """Explanations by model seed, if the pipeline asks for them."""
    prompts: dict[str, PromptResults] = {}
    """By label, of each recommender that prompts and tells what its prompts cost."""
    efficiency: dict[str, Efficiency] = {}
    users: dict[str, int] = {}
    """Number of users ranked, by protocol."""
    notes: dict[str, list[str]] = {}
    """By protocol: which metrics are undefined and therefore absent, and why."""
    higher_is_better: dict[str, bool] = {}
    """Direction of each metric family, as its plugin declares it."""
