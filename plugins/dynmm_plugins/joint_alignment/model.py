"""Joint alignment as an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.latents.blend import Term, fit_weights, mixed
from dynmm_framework.latents.cold import ContentMap
from dynmm_framework.latents.controls import rarity
from dynmm_framework.latents.inputs import (
    Standardiser,
    as_array,
    sample_prefixes,
    to_device,
    user_vectors,
)
from dynmm_framework.latents.profiles import Directions, recent_profiles
from dynmm_framework.protocols import Backbone, Context, FloatArray, State
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.joint_alignment.config import JointAlignmentConfig
from dynmm_plugins.joint_alignment.network import Aligner, Inputs
from dynmm_plugins.joint_alignment.task import AlignmentTask, Prefixes, ValidationUsers

ALPHAS = (10.0, 100.0, 1000.0, 10_000.0)
"""Penalties among which the content map chooses by cross-validation."""
BEHIND = -256.0
"""Offset that puts mapped items behind all others: far beyond any difference of logits, and near
enough to leave float32 its precision."""
LEAST_TARGETS = 50
"""Fewest validation targets to fit weights on."""


@dataclass(frozen=True, eq=False)
class _Attached:
    """The frozen parts an adapter stands on, and what follows from them."""

    backbone: Backbone
    inputs: Inputs
    mapped: NDArray[np.bool_]
    content: dict[str, FloatArray]
    rarity: FloatArray


class JointAlignment:
    """Joint latents of collaborative and content signals (DynMM-Explain-LLMRec, section 4.2).

    Each modality goes through a linear map of its own and a shared two-layer MLP; a softmax gate
    over those that an item has makes one latent of them, which is added to the backbone's vector;
    users go through a two-layer MLP, residual too. Trained by a ranking loss, InfoNCE between
    modalities (equation 4) and reconstruction, each with a weight of its own.

    Differences from the paper. Its one projector for modalities of different widths cannot exist,
    hence the maps before it. Residual paths start from zero, and what is trained is kept only if
    validation gains. Two parts are not the paper's and carry most of what content gives on real
    data: the similarity of an item's content to the user's newest items, and a ridge map from
    content to collaborative vectors for items without history. A few weights mix the terms,
    fitted by cross-entropy on validation users; those of items without history are fitted on
    items whose history is hidden; with a map, the trained latent takes no part in them. Preset
    ``paper`` leaves all of this out.

    Everything is one inner product: an item's latent is (fused latent, mapped vector, content
    directions, rarity, offset) times its weights, a user's (user latent, backbone's vector,
    recent profiles, 1, 1); so search, compression and soft tokens take it as it is. The mapped
    vector is there if an item needs it. Users are their histories. A missing modality takes no
    part, in training as later.

    Complexity: a step O((batch + n_items) · d · hidden + batch · n_items · d); the prefixes'
    user vectors are computed once.
    """

    def __init__(self, config: JointAlignmentConfig) -> None:
        self.config = config
        self.aligner: Aligner | None = None
        self.training_log: TrainingLog | None = None
        self._scaler = Standardiser({}, {})
        self._counts = np.empty(0, np.int64)
        self._map: ContentMap | None = None
        self._directions: dict[str, Directions] = {}
        self._weights: dict[str, dict[str, float]] = {}
        self._attached: _Attached | None = None

    # Learning.

    def fit(self, data: TrainingData, backbone: Backbone, ctx: Context) -> None:
        """Trains on a fitted backbone, which stays as it is.

        Raises:
            StageError: If there are no features, no item has one of the modalities, a width does
                not fit, or no user has two training interactions.
        """
        if not data.features:
            raise StageError(
                f"stage {ctx.stage}: an alignment needs features, and there is no encoder",
                hint="Add an encoders block, such as encoders: {text: sentence_text}.",
            )
        data = replace(data, features=self._chosen(data.features, ctx.stage))
        vectors = as_array(backbone.item_vectors())
        self._counts = counts = data.train.item_counts()
        self._scaler = Standardiser.fit(_in_order(_collaborative(vectors, counts), data.features))
        predicted = self._fit_map(data, vectors, counts, ctx)
        compared = dict(data.features) if self.config.similarity else {}
        if self.config.similarity_collaborative:
            compared["cf"] = _collaborative(vectors, counts)
        self._directions = {
            name: Directions.fit(found, self.config.similarity_dim)
            for name, found in compared.items()
        }
        with seeded(ctx, "initialise"):
            widths = [len(mean) for mean in self._scaler.means.values()]
            self.aligner = Aligner(self.config, widths, self._dim(vectors.shape[1]))
        self._weights = {"known": {}, "mapped": {}}
        self.attach(data.features, backbone)
        attached = self._attached
        assert attached is not None
        # Training learns the path of an unknown item on predictions that did not see it.
        learning = replace(attached.inputs, predicted=self._padded(to_device(predicted, "cpu")))
        self._train(learning, data, backbone, ctx)
        self._fit_weights(learning, ctx)

    def _fit_map(
        self, data: TrainingData, vectors: FloatArray, counts: NDArray[np.int64], ctx: Context
    ) -> FloatArray:
        """Fits the content map; returns its cross-validated predictions, zeros without one."""
        self._map = None
        if not self.config.content_map:
            return np.zeros_like(vectors)
        self._map, predicted = ContentMap.fit(
            data.features,
            vectors,
            counts,
            sizes=dict.fromkeys(data.features, self.config.content_map_dim),
            alphas=ALPHAS,
            least=self.config.content_map_least,
            rng=ctx.rng("content map"),
        )
        ctx.log(f"content map: penalty {self._map.alpha:g} by cross-validation over items")
        return predicted

    def _train(self, inputs: Inputs, data: TrainingData, backbone: Backbone, ctx: Context) -> None:
        config, aligner = self.config, self._fitted()
        weights = (config.rank_weight, config.align_weight, config.reconstruction_weight)
        if not any(weights):
            return
        histories, targets = sample_prefixes(
            data.histories, config.prefixes, rng=ctx.rng("prefixes")
        )
        if not len(targets):
            raise StageError(
                f"stage {ctx.stage}: no user has two training interactions, so there is no next "
                "item to learn",
                hint="Check the filters and the split.",
            )
        device = ctx.device
        moved = Inputs(
            inputs.base.to(device),
            inputs.predicted.to(device),
            [table.to(device) for table in inputs.modalities],
            inputs.present.to(device),
        )
        task = AlignmentTask(
            aligner,
            moved,
            Prefixes(
                to_device(user_vectors(backbone, histories), device),
                torch.from_numpy(targets).to(device),
            ),
            names=tuple(self._scaler.means),
            config=config,
            vectors_of=_validation_users(backbone, ctx),
        )
        validator = ctx.validator
        untrained = None
        if validator is not None and config.residual:
            aligner.to(device).eval()
            with torch.inference_mode():
                untrained = validator(task.score)
        self.training_log = train(task, config, ctx)
        aligner.to("cpu")
        if validator is None or untrained is None:
            return
        best = self.training_log.epochs[self.training_log.best_epoch - 1][validator.metric]
        before = untrained[validator.metric]
        gain = best - before if validator.higher_is_better else before - best
        ctx.record("alignment", {"untrained": before, "trained": best, "kept": gain > 0})
        if gain <= 0:
            aligner.silence()
            ctx.log(
                f"the trained part did not gain on validation ({validator.metric} {best:.4f} "
                f"against {before:.4f} without it), so it is left out"
            )

    def _fit_weights(self, learning: Inputs, ctx: Context) -> None:
        attached = self._attached
        assert attached is not None
        names = self._names
        # Without validation users: the terms as they are, rarity left out.
        plain = {name: float(name not in ("map", "rarity")) for name in names}
        self._weights = {
            "known": plain,
            "mapped": {**plain, **({"latent": 0.0, "map": 1.0} if "map" in names else {})},
        }
        validator = ctx.validator
        if validator is None or len(names) == 1:
            return
        users = self._user_terms(validator.evaluation.histories)
        known = ~attached.mapped
        items = self._item_terms(attached.inputs)
        unseen = self._item_terms(learning.unseen())
        for group, table, drop in (
            ("known", items, ("map",)),
            # The trained latents have seen the content of the items that play the unseen ones here.
            ("mapped", unseen, ("latent", "rarity", "cf")),
        ):
            if group == "mapped" and "map" not in names:
                continue
            leading = "map" if group == "mapped" else "latent"
            terms = [Term(n, users[n], table[n]) for n in names if n not in drop]
            if int(known[validator.evaluation.targets.items].sum()) < LEAST_TARGETS:
                continue
            found = fit_weights(
                terms,
                validator.evaluation,
                start=[1.0 if term.name == leading else 0.1 for term in terms],
                among=known,
                best=self.config.blend_best if group == "known" else None,
            )
            self._weights[group] = {**dict.fromkeys(names, 0.0), **found}
        ctx.record("blend", self._weights)
        for group, weights in self._weights.items():
            shown = ", ".join(f"{name} {value:.3g}" for name, value in weights.items())
            ctx.log(f"weights of {group} items: {shown}")

    # Serving.

    def attach(self, features: Mapping[str, Features], backbone: Backbone) -> None:
        """Puts the adapter on a backbone and on features, of which some may be missing.

        Raises:
            StageError: If a modality it was trained on is not there, or of another width.
        """
        vectors, counts = as_array(backbone.item_vectors()), self._counts
        named = {"cf": _collaborative(vectors, counts), **features}
        absent = [name for name in self._scaler.means if name not in named]
        if absent:
            raise StageError(
                f"the alignment was trained with {', '.join(absent)}, which is not among the "
                "features",
                hint="Give all its modalities; mark items that lack one as missing.",
            )
        features = {name: named[name] for name in self._scaler.means}
        content = {name: found for name, found in features.items() if name != "cf"}
        below = self.config.content_map_below if self._map is not None else 1
        mapped = counts < below
        predicted = np.zeros_like(vectors) if self._map is None else self._map.predict(content)
        base = np.where(mapped[:, None], predicted, vectors)
        present = np.stack([found.present for found in features.values()], axis=1)
        present[:, 0] = ~mapped
        self._attached = _Attached(
            backbone=backbone,
            inputs=Inputs(
                base=self._padded(to_device(base, "cpu")),
                predicted=self._padded(to_device(predicted, "cpu")),
                modalities=[
                    to_device(self._scaler.apply(name, found), "cpu")
                    for name, found in features.items()
                ],
                present=torch.from_numpy(present),
            ),
            mapped=mapped,
            content={
                name: directions.of(features[name]) for name, directions in self._directions.items()
            },
            rarity=rarity(counts),
        )

    def item_latents(self) -> FloatArray:
        """Returns latents of all items, ``(n_items, d)``; d is the sum of the terms' widths."""
        attached = self._ready()
        terms = self._item_terms(attached.inputs)
        latents = np.where(
            attached.mapped[:, None],
            mixed({name: terms[name] for name in self._names}, self._weights["mapped"]),
            mixed({name: terms[name] for name in self._names}, self._weights["known"]),
        )
        offset = BEHIND if self.config.cold_offset is None else self.config.cold_offset
        offsets = np.where(attached.mapped, np.float32(offset), np.float32(0))
        return np.concatenate([latents, offsets[:, None]], axis=1).astype(np.float32)

    def user_latents(self, histories: Histories) -> FloatArray:
        """Returns latents of users, ``(len(histories), d)``."""
        self._ready()
        terms = self._user_terms(histories)
        chosen = [terms[name] for name in self._names]
        ones = np.ones((len(histories), 1), np.float32)
        return np.concatenate([*chosen, ones], axis=1)

    def _item_terms(self, inputs: Inputs) -> dict[str, FloatArray]:
        attached, aligner = self._attached, self._fitted().eval()
        assert attached is not None
        with torch.no_grad():
            latents, _ = aligner.items(inputs)
        terms = {"latent": latents.numpy(), "map": inputs.predicted.numpy(), **attached.content}
        return terms | ({"rarity": attached.rarity} if self.config.rarity else {})

    def _user_terms(self, histories: Histories) -> dict[str, FloatArray]:
        attached, aligner = self._attached, self._fitted().eval()
        assert attached is not None
        vectors = to_device(user_vectors(attached.backbone, histories), "cpu")
        with torch.no_grad():
            latents = aligner.encode_users(vectors)
        config = self.config
        profiles = {
            name: recent_profiles(
                histories, content, items=config.similarity_items, decay=config.similarity_decay
            )
            for name, content in attached.content.items()
        }
        terms = {"latent": latents.numpy(), "map": self._padded(vectors).numpy(), **profiles}
        return terms | ({"rarity": np.ones((len(histories), 1), np.float32)})

    # State.

    def get_state(self) -> State:
        """Returns everything learned; empty before ``fit``."""
        if self.aligner is None:
            return {}
        parts: dict[str, Mapping[str, NDArray[Any]]] = {
            "aligner": module_state(self.aligner),
            "scaler": self._scaler.state(),
            "map": self._map.state() if self._map is not None else {},
            "items": {"counts": self._counts},
        }
        for name, directions in self._directions.items():
            parts[f"directions.{name}"] = directions.state()
        for group, weights in self._weights.items():
            parts[f"weights.{group}"] = {
                name: np.array([value], np.float32) for name, value in weights.items()
            }
        return {
            f"{part}/{key}": value for part, found in parts.items() for key, value in found.items()
        }

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned; call :meth:`attach` next.

        Raises:
            ArtifactError: If the arrays are of another configuration.
        """
        self._attached = None
        if not state:
            self.aligner = None
            return
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for key, value in state.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = np.asarray(value)
        self._scaler = Standardiser.restore(parts.get("scaler", {}))
        named = _in_order(None, self._scaler.means)
        self._scaler = Standardiser(
            {name: self._scaler.means[name] for name in named},
            {name: self._scaler.scales[name] for name in named},
        )
        self._counts = parts.get("items", {}).get("counts", np.empty(0, np.int64))
        self._map = ContentMap.restore(parts["map"]) if parts.get("map") else None
        self._directions = {
            part.removeprefix("directions."): Directions.restore(found)
            for part, found in parts.items()
            if part.startswith("directions.")
        }
        self._weights = {
            part.removeprefix("weights."): {name: float(v[0]) for name, v in found.items()}
            for part, found in parts.items()
            if part.startswith("weights.")
        }
        weights = parts.get("aligner", {})
        widths = [len(mean) for mean in self._scaler.means.values()]
        dim = len(weights["out.bias"]) if "out.bias" in weights else self._dim(widths[0])
        with torch.random.fork_rng(devices=[]):  # initial weights are overwritten at once
            self.aligner = Aligner(self.config, widths, dim)
        load_module_state(self.aligner, weights)

    # Small parts.

    def _chosen(self, features: Mapping[str, Features], stage: str) -> Mapping[str, Features]:
        """Returns the modalities that take part."""
        wanted = self.config.modalities
        if absent := [name for name in wanted if name not in features]:
            raise StageError(
                f"stage {stage}: align.config.modalities names {', '.join(absent)}, which has no"
                " encoder",
                hint=f"There are encoders of {', '.join(features)}.",
            )
        return {name: found for name, found in features.items() if not wanted or name in wanted}

    @property
    def _names(self) -> list[str]:
        """The terms of a score, in the order in which they stand in a latent."""
        below = self.config.content_map_below
        mapped = self._map is not None and bool((self._counts < below).any())
        rarity = ["rarity"] if self.config.rarity else []
        return ["latent", *(["map"] if mapped else []), *sorted(self._directions), *rarity]

    def _dim(self, width: int) -> int:
        dim = self.config.dim or width
        if self.config.residual and dim < width:
            raise StageError(
                f"latents of width {dim} cannot be added to a backbone's of width {width}",
                hint=f"Set align.config.dim to {width} or more, or residual to false.",
            )
        return dim

    def _padded(self, vectors: Tensor) -> Tensor:
        dim = self._dim(vectors.shape[1])
        if dim <= vectors.shape[1]:
            return vectors[:, :dim]
        return torch.nn.functional.pad(vectors, (0, dim - vectors.shape[1]))

    def _fitted(self) -> Aligner:
        if self.aligner is None:
            raise StageError("the alignment is not fitted", hint="Call fit or load_state first.")
        return self.aligner

    def _ready(self) -> _Attached:
        self._fitted()
        if self._attached is None:
            raise StageError(
                "the alignment is attached to no backbone", hint="Call attach after load_state."
            )
        return self._attached


def _collaborative(vectors: FloatArray, counts: NDArray[np.int64]) -> Features:
    """The collaborative vectors as a modality, missing without training interactions."""
    return Features(vectors, counts > 0)


def _in_order(cf: Any, features: Mapping[str, Any]) -> dict[str, Any]:
    """Returns modalities in the one order that stored and fresh adapters share: ``cf`` first."""
    rest = {name: features[name] for name in sorted(features) if name != "cf"}
    return {"cf": features.get("cf", cf), **rest}


def _validation_users(backbone: Backbone, ctx: Context) -> ValidationUsers:
    if ctx.validator is None:
        return ValidationUsers(np.empty(0, np.int32), torch.empty(0))
    evaluation = ctx.validator.evaluation
    vectors = to_device(user_vectors(backbone, evaluation.histories), ctx.device)
    return ValidationUsers(evaluation.users, vectors)
