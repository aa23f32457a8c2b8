"""A-LLMRec as a recommender."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata, save_arrays
from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import EvaluationSet, Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.features.cache import FeatureCache
from dynmm_framework.features.encode import encode_items
from dynmm_framework.language.retrieval import Retrieval, best_unknown, ranked_above
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.latents.inputs import as_array, sample_prefixes
from dynmm_framework.protocols import Context, FloatArray, IntArray, State
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.a_llmrec.config import ALLMRecConfig
from dynmm_plugins.a_llmrec.inputs import Completed, Items, Questions
from dynmm_plugins.a_llmrec.network import Bridge, JointSpace
from dynmm_plugins.a_llmrec.scorer import Lists, TitleScorer
from dynmm_plugins.a_llmrec.task import CandidateValidator, MatchingTask, TitleTask


class ALLMRec:
    """A backbone's users and items as tokens of a frozen language model (Kim et al., KDD 2024).

    Stage 1 puts the backbone's item vectors and the items' texts into one space: encoders and
    decoders of one layer, trained by what users choose next, by the distance between an item and
    its text, and by giving both back. Stage 2 trains two-layer maps of users and of that space
    into the language model, whose prompt is the user's token, titles and tokens of the newest
    items, titles and tokens of the candidates; the loss is the cross-entropy of the next item's
    title. Backbone, text encoder and language model stay as they are.

    The score of a candidate is the log-probability of its title after the prompt, so every
    candidate has a rank; the paper's greedy answer looks for the best of them. Of the whole
    catalogue, the backbone's best ``candidates`` are re-ranked and stand above the rest. Candidates
    that are given are all scored; the prompt lists them, so the score of one depends on which
    others are asked for, though not on their order. An item without training interactions enters
    by its text, in prompts as in retrieval.

    Differences from the paper: the text encoder is not tuned; vectors are standardised; soft
    tokens are as long as words; several prefixes of a user train stage 1; both stages keep the
    weights that are best on validation users. Differences from its published code, whose numbers
    have defects: the target is scored among the candidates, where there a title counts as found
    if it is anywhere in the generated text, be it a part of another title, and cut-offs beyond 1
    mean nothing; the weights are those of the best epoch, where there the fifth of ten is
    evaluated; a target is never drawn as a negative; users and negatives come from the seed;
    filters apply to interactions and counts alike, since they are the pipeline's.

    Complexity: a pass over history + candidates tokens a user, and one over all candidates'
    titles.

    Args:
        config: Settings.
    """

    def __init__(self, config: ALLMRecConfig) -> None:
        self.config = config
        self.training_log: TrainingLog | None = None
        self._ctx: Context | None = None
        self._titles: list[str] = []
        self._places = np.empty(0, np.float64)
        self._backbone: Any = None
        self._space: State = {}
        self._items: Items | None = None
        self._retrieval: Retrieval | None = None
        self._bridge: State = {}
        self._scorer: TitleScorer | None = None

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    # Learning.

    def fit(self, data: TrainingData, ctx: Context) -> None:
        config = self.config
        self._ctx, self._scorer, self._bridge = ctx, None, {}
        self._titles = titles_of(data.items)
        if not any(self._titles):
            raise StageError(
                f"stage {ctx.stage}: a_llmrec reads titles, and no item has one",
                hint="Name the column of titles in the data block, or use another recommender.",
            )
        if not (data.histories.lengths > 1).any():
            raise StageError(
                f"stage {ctx.stage}: no user has two training interactions, so there is no next "
                "item to learn",
                hint="Check the filters and the split.",
            )
        untitled = self._titles.count("")
        if untitled:
            ctx.log(f"{untitled:,} of {data.n_items:,} items have no title: ranked last")
        self._places = ctx.rng("order of candidates").random(data.n_items)
        self._backbone = self._fitted_backbone(data, ctx)
        self._items = self._matched(data, ctx)
        questions = self._examples(data, ctx)
        completed = Completed(self._backbone, self._items)
        self._retrieval = Retrieval.measured(completed, questions.histories)
        questions = self._standing(questions)
        with seeded(ctx, "initialise"):
            self._scorer = self._read(ctx)
        task = TitleTask(self._scorer, questions, self.score)
        validator = self._validator(ctx)
        if validator is None:
            ctx.log("no validation users: all epochs are trained, and the last weights stay")
        self.training_log = train(
            task, config, ctx, validator=validator, validate=validator is not None
        )
        self._bridge = module_state(self._scorer.bridge)

    def _fitted_backbone(self, data: TrainingData, ctx: Context) -> Any:
        """Returns the trained backbone; after a kill, as it was."""
        backbone = ctx.component(self.config.backbone)

        def fit() -> State:
            backbone.fit(data, ctx.part("backbone"))
            state: State = backbone.get_state()
            return state

        state, restored = self._kept("backbone", fit, data, ctx)
        if restored:
            backbone.load_state(state)
        return backbone

    def _matched(self, data: TrainingData, ctx: Context) -> Items:
        """Returns what stage 1 makes of the items; after a kill, as it was."""

        def match() -> State:
            config, known = self.config.matching, data.histories
            prefixes, targets = sample_prefixes(known, config.prefixes, rng=ctx.rng("matching"))
            counts = np.clip(known.lengths - 1, 0, config.prefixes)
            text = self._text(data, ctx)
            with seeded(ctx, "matching"):
                width = as_array(self._backbone.item_vectors()).shape[1]
                space = JointSpace(width, text.dim, config.dim)
            owners = np.repeat(np.arange(len(known)), counts)
            task = MatchingTask(
                space, self._backbone, text, known, prefixes, owners, targets, config, ctx
            )
            train(task, config, ctx, name="matching", record="matching")
            found = task.items()
            textless = int((~text.present[found.cold]).sum())
            if len(found.cold):
                ctx.log(
                    f"{len(found.cold):,} items have no training interactions: their texts stand "
                    f"for them; {textless:,} of them have none either"
                )
            space_state = {f"space/{name}": v for name, v in module_state(space).items()}
            return {**found.state(), **space_state}

        state, _ = self._kept("matching", match, data, ctx)
        self._space = _under(state, "space/")
        return Items.restore(state)

    def _text(self, data: TrainingData, ctx: Context) -> Features:
        ref = self.config.encoder
        encoded = encode_items(
            ctx.component(ref),
            data.items,
            modality="text",
            cache=FeatureCache(ctx.workdir / "features"),
            ctx=ctx.part("encoder"),
            identity=ref.model_dump_json(),
            name=ref.name,
            fields=self.config.text_fields,
        )
        return encoded.features

    def _kept(
        self, name: str, make: Callable[[], State], data: TrainingData, ctx: Context
    ) -> tuple[State, bool]:
        """Returns a finished part of the training from the scratch folder, or makes and keeps it.

        The loop resumes what a kill interrupted; this is for what was finished before.
        """
        facts = [self.config.model_dump(mode="json"), ctx.seed, ctx.stage, data.n_items]
        facts += [data.n_users, len(data.train)]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        path = ctx.workdir / f"{name}.safetensors"
        alone = ctx.workers.size == 1
        if alone and path.is_file() and read_metadata(path).get("digest") == digest:
            ctx.log(f"{name} was trained before the interruption")
            return load_arrays(path), True
        state = make()
        if alone:
            save_arrays(path, state, metadata={"digest": digest})
        return state, False

    def _examples(self, data: TrainingData, ctx: Context) -> Questions:
        """Returns the newest training prefixes of some users, users' vectors still missing."""
        prefixes, targets = sample_prefixes(data.histories, 1, rng=ctx.rng("prefixes"))
        owners = np.flatnonzero(data.histories.lengths > 1)
        rows = np.flatnonzero([bool(self._titles[target]) for target in targets])
        chosen = np.sort(ctx.rng("examples").permutation(rows)[: self.config.examples])
        if not len(chosen):
            raise StageError(
                f"stage {ctx.stage}: no item that comes next in training has a title to learn",
                hint="Check the column of titles.",
            )
        known = data.histories.take(owners[chosen])
        nothing = np.empty((len(chosen), 0), np.float32)
        return Questions(prefixes.take(chosen), nothing, known, targets[chosen])

    def _standing(self, questions: Questions) -> Questions:
        """Returns questions with their users' vectors."""
        retrieval = self._stands()
        users = retrieval.standardised(retrieval.users(questions.histories))
        return Questions(questions.histories, users, questions.known, questions.targets)

    def _validator(self, ctx: Context) -> CandidateValidator | None:
        """Returns what stops stage 2: one target of each of some validation users."""
        if ctx.validator is None or self._scorer is None:
            return None
        asked: EvaluationSet = ctx.validator.evaluation
        titled = np.array(
            [bool(self._titles[asked.targets[row][0]]) for row in range(len(asked))], dtype=bool
        )
        rows = ctx.rng("validation users").permutation(np.flatnonzero(titled))
        if not len(rows):
            return None
        asked = asked.take(np.sort(rows[: self.config.validation_users]))
        targets = asked.targets.items[asked.targets.offsets[:-1]].astype(np.int64)
        nothing = np.empty((len(asked), 0), np.float32)
        known = asked.known.append(asked.targets)
        questions = self._standing(Questions(asked.histories, nothing, known, targets))
        lists = questions.candidates(self.config.candidates, rng=ctx.rng("validation candidates"))
        return CandidateValidator(self._scorer, questions, lists, asked)

    # Serving.

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        retrieval = self._stands()
        users = retrieval.users(histories)
        if candidates is not None:
            return self._listed(histories, users, list(candidates))
        n_items = len(self._titles)
        if self.config.candidates >= n_items:
            everything = np.arange(n_items, dtype=np.int32)
            return self._listed(histories, users, [everything] * len(histories))
        base = users @ retrieval.items.T
        top = best_unknown(base, histories, self.config.candidates)
        found = self._listed(histories, users, list(top))
        # The others go below 0 … 1, where these are; a probability would be 0 for a long title.
        return ranked_above(base, top, 1 / (1 - found.astype(np.float64)), floor=-1)

    def _listed(self, histories: Histories, users: FloatArray, lists: Lists) -> FloatArray:
        """Scores each user's candidates, ``(batch, C)``."""
        if not len(histories):
            return np.empty((0, len(lists[0]) if lists else 0), np.float32)
        if self._scorer is None:
            self._scorer = self._read(self._context())
            load_module_state(self._scorer.bridge, self._bridge)
        standard = self._stands().standardised(users)
        return np.stack(self._scorer.scores(histories, standard, lists))

    # State.

    def get_state(self) -> State:
        if self._items is None or not self._bridge:
            return {}
        parts: dict[str, State] = {
            "backbone": self._backbone.get_state(),
            "space": self._space,
            "items": self._items.state(),
            "retrieval": self._stands().state(),
            "bridge": self._bridge,
            "titles": pack_titles(self._titles),
            "order": {"places": self._places},
        }
        return {f"{part}/{key}": v for part, found in parts.items() for key, v in found.items()}

    def load_state(self, state: State) -> None:
        self._scorer = self._retrieval = self._items = None
        self._bridge, self._space = _under(state, "bridge/"), _under(state, "space/")
        self._titles = unpack_titles(_under(state, "titles/"))
        if not state:
            return
        self._places = np.asarray(state["order/places"])
        self._items = Items.restore(_under(state, "items/"))
        self._backbone = self._context().component(self.config.backbone)
        self._backbone.load_state(_under(state, "backbone/"))
        self._retrieval = Retrieval(
            Completed(self._backbone, self._items),
            mean=np.asarray(state["retrieval/mean"]),
            scale=np.asarray(state["retrieval/scale"]),
        )

    # Small parts.

    def _read(self, ctx: Context) -> TitleScorer:
        """Returns a scorer, its trained parts fresh."""
        assert self._items is not None
        llm = ctx.component(self.config.llm)
        users, _ = self._stands().widths
        bridge = Bridge(users, self._items.joint.shape[1], llm).to(ctx.device).eval()
        return TitleScorer(
            self.config, self._titles, self._items.joint, self._places, bridge, llm, ctx
        )

    def _stands(self) -> Retrieval:
        if self._retrieval is None:
            raise StageError("ALLMRec is not fitted", hint="Call fit or load_state first.")
        return self._retrieval

    def _context(self) -> Context:
        if self._ctx is None:
            raise StageError(
                "ALLMRec does not know where its language model is",
                hint="Call connect(ctx) or fit first.",
            )
        return self._ctx


def _under(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
