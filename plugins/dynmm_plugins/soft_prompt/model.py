"""The soft prompt as an adapter."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.language.retrieval import Asked, Retrieval, Vectors, ndcg_among
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.latents.blend import fit_mixture
from dynmm_framework.latents.inputs import sample_prefixes
from dynmm_framework.protocols import Context, FloatArray, IntArray, State, Validator
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer
from dynmm_plugins.soft_prompt.task import PromptTask

LEAST_TARGETS = 20
"""Fewest validation targets among the retrieved items to fit γ on."""
FOLDS = 5
"""Parts of the validation users; each is ranked by weights that were fitted on the others."""


class SoftPrompt:
    """A frozen language model re-ranks what latents retrieve (DynMM-Explain-LLMRec, section 4.4).

    The user, the newest items of the history and the candidates enter as soft tokens, made of
    their latents by two-layer projectors; titles stand before them as words. The score of a
    candidate is retrieval's plus γ times the language model's. γ is fitted on validation users,
    and 0 where others than it was fitted on do not clearly gain: then the order is retrieval's
    own, and the language model is not read at all.

    Differences from the paper: a ranking is made from scores, never parsed from text. Training
    starts from retrieval's ranking, as the head starts from 0. Candidates stand in the prompt in
    an order that depends on the seed and on nothing else, so that no score can come from their
    place. Projectors and head are trained, by cross-entropy over the candidates (``slots``) or of
    the target's title (``log_prob``); gradients flow through the language model, which stays as
    it is. Users are their histories.

    Complexity: a pass over history + candidates tokens a user; nothing but inner products where
    γ is 0.

    Args:
        config: Settings.
    """

    def __init__(self, config: SoftPromptConfig) -> None:
        self.config = config
        self.training_log: TrainingLog | None = None
        self._ctx: Context | None = None
        self._retrieval: Retrieval | None = None
        self._scorer: PromptScorer | None = None
        self._titles: list[str] = []
        self._places = np.empty(0, np.float64)
        self._weights = (1.0, 0.0)
        self._state: State = {}

    def connect(self, ctx: Context) -> None:
        """Tells where the language model comes from."""
        self._ctx = ctx

    # Learning.

    def fit(self, data: TrainingData, base: Vectors, ctx: Context) -> None:
        """Trains projectors and head on frozen vectors and a frozen language model, then fits γ.

        Raises:
            StageError: If no user has two training interactions, or prompts do not fit the
                language model's context.
        """
        config = self._ctx_config(ctx)
        histories, targets = sample_prefixes(data.histories, 1, rng=ctx.rng("prefixes"))
        if not len(targets):
            raise StageError(
                f"stage {ctx.stage}: no user has two training interactions, so there is no next "
                "item to learn",
                hint="Check the filters and the split.",
            )
        chosen = np.sort(ctx.rng("examples").permutation(len(targets))[: config.examples])
        histories, targets = histories.take(chosen), targets[chosen]
        self._titles = titles_of(data.items)
        untitled = sum(not title for title in self._titles)
        if untitled:
            ctx.log(f"{untitled:,} of {data.n_items:,} items have no title: soft tokens alone")
        self._places = ctx.rng("order of candidates").random(data.n_items)
        self._retrieval = Retrieval.measured(base, histories)
        with seeded(ctx, "initialise"):
            self._read(ctx)
        examples = self._retrieval.asked(
            histories, min(config.candidates, data.n_items), targets=targets, forced=True
        )
        self._weights = (1.0, 1.0)
        assert self._scorer is not None
        task = PromptTask(self._scorer, examples, self.score)
        found = None if ctx.validator is None else self._retrieved(ctx.validator, ctx)
        if found is None:
            self.training_log = train(task, config, ctx, validate=False)
            self._weights = (1.0, 0.0)
            return
        validator, asked = found
        self.training_log = train(task, config, ctx, validator=validator)
        self._weights = (1.0, 0.0)
        self._fit_weights(asked, ctx)

    def _retrieved(self, validator: Validator, ctx: Context) -> tuple[Validator, Asked] | None:
        """Returns the validation users whose target is retrieved; the others tell nothing."""
        retrieval, config, evaluation = self._stands(), self.config, validator.evaluation
        targets = np.full(len(evaluation.histories), -1, np.int64)
        targets[evaluation.targets.rows] = evaluation.targets.items  # of several, the last
        asked = retrieval.asked(
            evaluation.histories, min(config.candidates, len(retrieval.items)), targets=targets
        )
        rows = np.flatnonzero(asked.targets >= 0)
        told = f"of {len(targets):,} validation users {len(rows):,} have their target retrieved"
        if len(rows) < LEAST_TARGETS:
            ctx.log(f"{told}, too few to fit γ: it stays 0 and the order is retrieval's")
            return None
        limit = config.validation_users
        if len(rows) > limit:
            rows = np.sort(ctx.rng("validation users").choice(rows, limit, replace=False))
            told += f", {limit:,} of which are asked"
        ctx.log(told)
        return validator.take(rows), asked.take(rows)

    def _fit_weights(self, asked: Asked, ctx: Context) -> None:
        """Fits γ; it stays 0 where users that it was not fitted on do not gain.

        A gain counts if it is larger than its standard error: on a hundred users, noise gains on
        the users it is fitted on about every other time.
        """
        scores = self._scores(asked)
        parts = [asked.base, scores]
        fitted = fit_mixture(parts, asked.targets, start=[1.0, 0.1])
        held_out = np.empty(len(asked))
        for fold in np.array_split(ctx.rng("folds").permutation(len(asked)), FOLDS):
            rest = np.setdiff1d(np.arange(len(asked)), fold)
            weights = fit_mixture([p[rest] for p in parts], asked.targets[rest], start=[1.0, 0.1])
            mixed = weights[0] * asked.base[fold] + weights[1] * scores[fold]
            held_out[fold] = ndcg_among(mixed, asked.targets[fold])
        plain = ndcg_among(asked.base, asked.targets)
        gains = held_out - plain
        error = float(gains.std(ddof=1) / len(gains) ** 0.5)
        before, after = float(plain.mean()), float(held_out.mean())
        gained = min(fitted) > 0 and after - before > error
        ctx.record(
            "prompt",
            {
                "validation_targets": len(asked),
                "weight_of_retrieval": fitted[0],
                "gamma": fitted[1] if gained else 0.0,
                "fitted_gamma": fitted[1],
                "ndcg_of_retrieval": before,
                "ndcg_with_language_model": after,
                "standard_error_of_the_gain": error,
                "ndcg_of_language_model_alone": float(ndcg_among(scores, asked.targets).mean()),
                "tokens_of_a_prompt": self._tokens(asked),
            },
        )
        told = (
            f"NDCG among the retrieved {after:.4f} against {before:.4f} of retrieval, "
            f"standard error {error:.4f}"
        )
        if gained:
            self._weights = (float(fitted[0]), float(fitted[1]))
            ctx.log(f"γ {fitted[1] / fitted[0]:.3g} of retrieval's scale; {told}")
        else:
            ctx.log(f"γ is 0, as there is no clear gain: {told}; the order is retrieval's")

    # Serving.

    def attach(self, base: Vectors) -> None:
        """Puts the adapter, fitted or restored, on what retrieves; call after ``load_state``."""
        part = {
            k.removeprefix("retrieval/"): v for k, v in self._state.items() if "retrieval/" in k
        }
        if not part:
            raise StageError("the soft prompt is not fitted", hint="Call fit or load_state first.")
        self._retrieval = Retrieval(
            base, mean=np.asarray(part["mean"]), scale=np.asarray(part["scale"])
        )
        self._scorer = None

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        """Scores items: retrieval's best are re-ordered among themselves, the others stay below.

        The scores are retrieval's, dealt out anew in the order of the mixture; a single candidate,
        which has no order, gets the mixture itself.
        """
        retrieval = self._stands()
        if candidates is None:
            out = np.empty((len(histories), len(retrieval.items)), np.float32)
            for part, scores in retrieval.all_scores(histories):
                out[part] = scores
            ids = None
        else:
            out = np.empty(candidates.shape, np.float32)
            for part, scores in retrieval.all_scores(histories):
                out[part] = np.take_along_axis(scores, candidates[part], axis=1)
            ids = candidates
        if not self._weights[1]:
            return out
        size = min(self.config.candidates, out.shape[1])
        asked = retrieval.asked(histories, size, among=ids)
        mixed = self._weights[0] * asked.base + self._weights[1] * self._scores(asked)
        if out.shape[1] == 1:
            return mixed.astype(np.float32)
        order = np.argsort(-mixed, axis=1, kind="stable")
        dealt = np.empty_like(asked.base)
        np.put_along_axis(dealt, order, -np.sort(-asked.base, axis=1), axis=1)
        if ids is None:
            np.put_along_axis(out, asked.candidates.astype(np.int64), dealt, axis=1)
            return out
        for row in range(len(histories)):
            given = dict(zip(asked.candidates[row].tolist(), dealt[row].tolist(), strict=True))
            pairs = zip(ids[row].tolist(), out[row].tolist(), strict=True)
            out[row] = [given.get(item, score) for item, score in pairs]
        return out

    def _scores(self, asked: Asked) -> FloatArray:
        """Scores candidates, written in an order that the seed alone decides, ``(n, C)``."""
        order = np.argsort(self._places[asked.candidates], axis=1, kind="stable")
        found = self._ready().score_all(asked.reordered(order))
        out = np.empty_like(found)
        np.put_along_axis(out, order, found, axis=1)
        return out

    # State.

    def get_state(self) -> State:
        """Returns everything learned; empty before ``fit``."""
        if self._state and self._scorer is None:
            return self._state
        if self._retrieval is None or self._scorer is None:
            return {}
        parts: dict[str, State] = {
            "parts": module_state(self._scorer.parts),
            "retrieval": self._retrieval.state(),
            "titles": pack_titles(self._titles),
            "order": {"places": self._places},
            "weights": {"values": np.array(self._weights, np.float64)},
        }
        return {f"{part}/{key}": v for part, found in parts.items() for key, v in found.items()}

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned; call :meth:`attach` next."""
        self._state = dict(state)
        self._retrieval = self._scorer = None
        if not state:
            return
        self._titles = unpack_titles(
            {k.removeprefix("titles/"): v for k, v in state.items() if k.startswith("titles/")}
        )
        self._places = np.asarray(state["order/places"])
        values = np.asarray(state["weights/values"])
        self._weights = (float(values[0]), float(values[1]))

    # Small parts.

    def _ctx_config(self, ctx: Context) -> SoftPromptConfig:
        self._ctx = ctx
        self._state = {}
        return self.config

    def _stands(self) -> Retrieval:
        if self._retrieval is None:
            raise StageError(
                "the soft prompt is attached to nothing that retrieves",
                hint="Call attach after load_state.",
            )
        return self._retrieval

    def _ready(self) -> PromptScorer:
        """Returns the scorer; a restored adapter loads the language model when it is needed."""
        if self._scorer is None:
            if self._ctx is None:
                raise StageError(
                    "the soft prompt does not know where its language model is",
                    hint="Call connect(ctx) first.",
                )
            self._read(self._ctx)
            scorer: Any = self._scorer
            weights = {k.removeprefix("parts/"): v for k, v in self._state.items() if "parts/" in k}
            load_module_state(scorer.parts, weights)
            scorer.parts.to(self._ctx.device).eval()
        assert self._scorer is not None
        return self._scorer

    def _read(self, ctx: Context) -> None:
        """Makes the scorer, its trained parts fresh."""
        retrieval, config = self._stands(), self.config
        llm = None if config.scorer == "direct" else ctx.component(config.llm)
        parts = Parts(config, retrieval.widths, llm)
        self._scorer = PromptScorer(config, self._titles, retrieval.standard_items, parts, llm, ctx)

    def _tokens(self, asked: Asked) -> dict[str, float]:
        """Returns the mean number of tokens of each segment."""
        return self._ready().segment_tokens(asked)
