"""What a trained prompt answers: scores, evidence, and its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.retrieval import Asked, Retrieval, Vectors
from dynmm_framework.language.titles import pack_titles, unpack_titles
from dynmm_framework.protocols import Context, FloatArray, IntArray, State
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.grounds import Grounds
from dynmm_plugins.soft_prompt.mixing import Mixture, deal_anew
from dynmm_plugins.soft_prompt.records import Question
from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer

if TYPE_CHECKING:
    from torch import Tensor


class ServedPrompt:
    """A prompt as it is asked, once it is trained or restored.

    Args:
        config: Settings.
    """

    def __init__(self, config: SoftPromptConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._retrieval: Retrieval | None = None
        self._grounds: Grounds | None = None
        self._scorer: PromptScorer | None = None
        self._titles: list[str] = []
        self._places = np.empty(0, np.float64)
        self._weights = Mixture()
        self._state: State = {}

    def connect(self, ctx: Context) -> None:
        """Tells where the language model comes from."""
        self._ctx = ctx

    def attach(self, base: Vectors, *, evidence: EvidenceSource | None = None) -> None:
        """Puts the adapter, fitted or restored, on what retrieves; call after ``load_state``.

        Raises:
            StageError: If it is not fitted, or was trained with other evidence.
        """
        part = _part(self._state, "retrieval")
        if not part:
            raise StageError("the soft prompt is not fitted", hint="Call fit or load_state first.")
        self._retrieval = Retrieval(
            base, mean=np.asarray(part["mean"]), scale=np.asarray(part["scale"])
        )
        self._scorer = None
        known = tuple(unpack_titles(_part(self._state, "extractors")))
        given = () if evidence is None else evidence.names
        if known and known != given:
            raise StageError(
                f"the soft prompt was trained with evidence of {', '.join(known)} and is put on "
                f"that of {', '.join(given) or 'no extractor'}",
                hint="Give it the extractors that it was trained with, in the same order.",
            )
        self._ground(evidence if known else None)
        if self._grounds is not None:
            device = "cpu" if self._ctx is None else self._ctx.device
            self._grounds.load(_part(self._state, "evidence"), device=device)

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
        if not self._weights.changes:
            return out
        asked = retrieval.asked(histories, min(self.config.candidates, out.shape[1]), among=ids)
        mixed = self._mixed(self._question(asked))
        if out.shape[1] == 1:
            return mixed.astype(np.float32)
        deal_anew(out, asked, mixed, among=ids)
        return out

    def score_with(
        self, histories: Histories, candidates: IntArray, evidence: Evidence | None
    ) -> FloatArray:
        """Scores candidates with exactly the evidence that is given.

        The same mixture that :meth:`score` orders by, itself: all candidates stand in one prompt,
        so give the same ones to compare what evidence does. What :meth:`score` reads is
        :meth:`evidence_for`; take records of it away, or put others in their place.

        Args:
            histories: The users.
            candidates: Items for each, ``(len(histories), C)``.
            evidence: Records of these users and candidates; ``None`` is none at all.

        Returns:
            ``(len(histories), C)``.
        """
        asked = self._stands().given(histories, candidates)
        if self._grounds is None:
            return self._mixed(Question(asked))
        if evidence is None:
            return self._mixed(self._grounds.nothing(asked))
        return self._mixed(self._grounds.question(asked, evidence))

    def evidence_for(self, histories: Histories, candidates: IntArray) -> Evidence:
        """Returns the evidence that scores rest on; empty if the prompt knows of none."""
        if self._grounds is None:
            return Evidence(EvidenceTable.empty(), np.empty(0, np.int16))
        return self._grounds.find(histories, candidates)

    def evidence_parts(
        self, histories: Histories, candidates: IntArray, evidence: Evidence
    ) -> FloatArray:
        """Returns what each record adds to its candidate's score by the evidence's own head.

        What the language model makes of evidence cannot be divided so, and is not in it.

        Args:
            histories: The users.
            candidates: Items for each, ``(len(histories), C)``.
            evidence: Records of these users and candidates.

        Returns:
            ``(len(evidence),)``; 0 where the head has no weight.
        """
        if self._grounds is None or not self._weights.evidence:
            return np.zeros(len(evidence), np.float32)
        asked = self._stands().given(histories, candidates)
        found: FloatArray = self._weights.evidence * self._grounds.parts_of(asked, evidence)
        return found.astype(np.float32)

    def evidence_embeddings(
        self, histories: Histories, candidates: IntArray, evidence: Evidence
    ) -> Tensor | None:
        """Returns soft tokens of evidence, which the language model can read beside words.

        Args:
            histories: The users.
            candidates: Items for each, ``(len(histories), C)``.
            evidence: Records of these users and candidates.

        Returns:
            ``(len(histories), E, hidden_size)``; ``None`` where they have never been learned to
            write from (``nlp_weight``).
        """
        if self._grounds is None or not self.config.nlp_weight:
            return None
        asked = self._stands().given(histories, candidates)
        return self._ready().evidence_embeddings(self._grounds.question(asked, evidence))

    def _question(self, asked: Asked, *, own: NDArray[np.bool_] | None = None) -> Question:
        """Adds evidence to what is asked; of training examples without ``own`` pairs, (n, C)."""
        return Question(asked) if self._grounds is None else self._grounds.question(asked, own=own)

    def _mixed(self, question: Question) -> FloatArray:
        """Returns the parts of the score, each times its weight, ``(n, C)``."""
        weights = self._weights
        mixed = weights.retrieval * question.asked.base
        if weights.evidence:
            assert self._grounds is not None  # whose head it is
            mixed = mixed + weights.evidence * self._grounds.scores(question)
        if weights.language_model:
            mixed = mixed + weights.language_model * self._scores(question)
        found: FloatArray = np.asarray(mixed, np.float32)
        return found

    def _scores(self, question: Question) -> FloatArray:
        """Scores candidates, written in an order that the seed alone decides, ``(n, C)``."""
        order = np.argsort(self._places[question.asked.candidates], axis=1, kind="stable")
        found = self._ready().score_all(question.reordered(order))
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
        weights = self._weights
        parts: dict[str, State] = {
            "parts": module_state(self._scorer.parts),
            "retrieval": self._retrieval.state(),
            "titles": pack_titles(self._titles),
            "order": {"places": self._places},
            "weights": {
                "values": np.array([weights.retrieval, weights.evidence, weights.language_model])
            },
        }
        if self._grounds is not None:
            parts["extractors"] = pack_titles(self._grounds.source.names)
            parts["evidence"] = self._grounds.state()
        return {f"{part}/{key}": v for part, found in parts.items() for key, v in found.items()}

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned; call :meth:`attach` next."""
        self._state = dict(state)
        self._retrieval = self._scorer = self._grounds = None
        if not state:
            return
        self._titles = unpack_titles(_part(state, "titles"))
        self._places = np.asarray(state["order/places"])
        self._weights = Mixture(*map(float, state["weights/values"]))

    # Small parts.

    def _ground(self, evidence: EvidenceSource | None) -> None:
        """Keeps what finds evidence, if there is any and it is wanted."""
        self._grounds = None
        if evidence is not None and evidence.names and self.config.evidence_tokens:
            self._grounds = Grounds(evidence, self._stands(), self.config)

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
            scorer = self._read(self._ctx)
            load_module_state(scorer.parts, _part(self._state, "parts"))
            scorer.parts.to(self._ctx.device).eval()
        assert self._scorer is not None
        return self._scorer

    def _read(self, ctx: Context) -> PromptScorer:
        """Makes the scorer, its trained parts fresh."""
        retrieval, config = self._stands(), self.config
        llm = None if config.scorer == "direct" else ctx.component(config.llm)
        owners = 0 if self._grounds is None else len(self._grounds.source.names)
        parts = Parts(config, retrieval.widths, llm, owners=owners)
        self._scorer = PromptScorer(config, self._titles, retrieval.standard_items, parts, llm, ctx)
        return self._scorer


def _part(state: State, name: str) -> State:
    """Returns the arrays of one part of the state, by their own names."""
    return {k.removeprefix(f"{name}/"): v for k, v in state.items() if k.startswith(f"{name}/")}
