"""The envelope of a pipeline: every block of the YAML file except components' own settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from dynmm_framework.config.blocks import Block, ComponentRef, H, distinct
from dynmm_framework.config.content import (
    Ablation,
    Control,
    Encoders,
    Robustness,
    Role,
    controlled,
)
from dynmm_framework.config.evidence import EvidenceRef
from dynmm_framework.config.explain import ExplainBlock
from dynmm_framework.config.online import OnlineRef
from dynmm_framework.config.protocols import FullProtocol, ProtocolBlock
from dynmm_framework.config.search import SearchBlock
from dynmm_framework.specs import fold

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Filters(Block):
    """What is kept of the raw interactions; applied in this order, each step reported."""

    min_rating: float | None = None
    """Keep interactions rated at least this much; for data with ratings."""
    deduplicate: Literal["none", "first", "last"] = "last"
    """Which interaction is kept when a user has several with the same item."""
    k_core: Annotated[int, Field(ge=0)] = 0
    """Repeat dropping users and items with fewer interactions, until none is left; 0 is off."""
    min_user_interactions: Annotated[int, Field(ge=0)] = 0
    """As ``k_core``, for users only."""
    min_item_interactions: Annotated[int, Field(ge=0)] = 0
    """As ``k_core``, for items only."""


class DataBlock(ComponentRef):
    """The dataset: a registered reader, its settings, and filters."""

    filters: Filters = Filters()


class LeaveOneOut(Block):
    """A user's last interaction is the test target, the one before it the validation target."""

    strategy: Literal["leave_one_out"]
    min_interactions: Annotated[int, Field(ge=3)] = 3
    """Users with fewer interactions are used for training only."""


class _Ratios(Block):
    ratios: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    """Shares of training, validation and test; they sum to 1."""

    @field_validator("ratios")
    @classmethod
    def _sums_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(value) - 1) > 1e-6:
            raise ValueError(f"ratios must sum to 1, not {sum(value):g}")
        return value


class TemporalUser(_Ratios):
    """Each user's interactions are cut by time: oldest to training, newest to test."""

    strategy: Literal["temporal_user"]


class RandomRatio(_Ratios):
    """Interactions are assigned at random."""

    strategy: Literal["random"]
    per_user: bool = False
    """Draw within each user rather than over all interactions."""


class GlobalTime(_Ratios):
    """All interactions are cut at two points in time, the same for every user."""

    strategy: Literal["global_time"]


class ColdStart(_Ratios):
    """As ``temporal_user``, but targets are only items with few training interactions."""

    strategy: Literal["cold_start"]
    threshold: Annotated[int, Field(ge=1)] = 5
    """Targets have fewer training interactions than this."""


class ColdItems(Block):
    """Whole items are held out: nothing learns from them, and users are asked for them."""

    strategy: Literal["cold_items"]
    share: Fraction = 0.2
    """Share of the items with interactions that is drawn and held out."""


class Streaming(Block):
    """By time: an offline part for training and a stream that follows."""

    strategy: Literal["streaming"]
    offline: Fraction = 0.7
    """Share of interactions, oldest first, for offline training and validation."""
    valid: Fraction = 0.1
    """Share of the offline part, its newest, for validation."""


class UserDisjoint(_Ratios):
    """Users are cut into parts, in the order in which the data names them first: whoever is asked
    is a stranger. An interaction that comes after ``min_history`` others of its user is an
    example, to learn from or to be asked for after all those before it; the shares are of them.
    """

    strategy: Literal["user_disjoint"]
    min_history: Annotated[int, Field(ge=1)] = 10
    """Interactions of a user that only are known before the first example; TALLRec's 10."""
    examples: Annotated[int, Field(ge=3)] | None = None
    """Only so many examples, the last ones; TALLRec takes 10,000. All if null."""
    whole_users: bool = True
    """Give all examples of a user to one part, that of the first; ``false`` cuts between examples,
    as TALLRec's data do, where up to two users are in two parts.
    """


class MMRecSplit(Block):
    """MMRec's per-user split by time: with n < 10 interactions the last two are validation and
    test; otherwise 20 % of them, halved into validation and test.
    """

    strategy: Literal["mmrec"]


class GivenFiles(Block):
    """A split given by files: texts with one user per line, ``user item item …``, or all of them
    sparse matrices users × items (``.npz``).
    """

    strategy: Literal["given"]
    train: str
    """Training file; with it the reader's own interactions serve for names of items only."""
    test: str
    """Test file."""
    valid: str | None = None
    """Validation file; if there is none, ``valid_share`` of training is held out."""
    valid_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each user's training items drawn for validation if there is no file; 0 for none."""
    refit: bool = True
    """Train on the whole training file in the end, as who published the files did: once early
    stopping has found the best epoch on the drawn share, a component that has ``epochs`` is
    trained again from scratch, for that many epochs; any other is fitted once, on everything.
    Only without a validation file, which belongs to the split and is never trained on; with one
    the default is ``false``.
    """

    @model_validator(mode="before")
    @classmethod
    def _keeps_a_validation_file(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("valid") is not None:
            return {"refit": False, **value}
        return value

    @model_validator(mode="after")
    def _never_trains_on_a_validation_file(self) -> GivenFiles:
        if self.refit and self.valid is not None:
            raise ValueError("refit: true needs a split without a validation file (valid)")
        return self

    @property
    def refits(self) -> bool:
        """Whether a share is held out that is trained on in the end."""
        return self.refit and self.valid is None and self.valid_share > 0


SplitBlock = Annotated[
    LeaveOneOut
    | TemporalUser
    | RandomRatio
    | GlobalTime
    | ColdStart
    | ColdItems
    | Streaming
    | MMRecSplit
    | UserDisjoint
    | GivenFiles,
    Field(discriminator="strategy"),
]


DEFAULT_METRICS = ("hit", "ndcg", "recall", "mrr")


class EvaluateBlock(Block):
    """How recommenders are compared."""

    protocols: list[ProtocolBlock] = Field(default=[FullProtocol()], min_length=1)
    """``full``, ``auc`` and any number of ``{sampled: N}`` and ``{cold: N}``; every number carries
    its protocol.
    """
    at: list[Annotated[int, Field(ge=1, le=1000)]] = Field(default=[5, 10, 20], min_length=1)
    """Cut-offs."""
    metrics: list[str] = Field(default=list(DEFAULT_METRICS), min_length=1)
    """Metric families as listed by ``dynmm plugins list``."""
    compare_with: list[ComponentRef] = []
    """Further recommenders: registered baselines or backbones."""
    monitor: str = "ndcg@10"
    """Metric on validation users that early stopping and model selection follow."""
    monitor_users: Annotated[int, Field(ge=1)] | None = None
    """Validate on this many users, drawn once; all if null."""
    max_users: Annotated[int, Field(ge=1)] | None = None
    """Test on this many users, drawn once; all if null."""
    significance: Literal["holm", "none"] = "holm"
    """Correction over the pairwise comparisons; ``none`` prints uncorrected p-values."""

    @field_validator("at", "protocols")
    @classmethod
    def _without_repeats(cls, value: list[H]) -> list[H]:
        return distinct(value)


class ComputeBlock(Block):
    """Where and how the run computes. Does not change what is computed, ``precision`` and the
    number of ``workers`` excepted.
    """

    device: str = "auto"
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:1``."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` trains under autocast; evaluation is always fp32."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of one process; all available cores if null, but one of each Ray worker."""
    engine: Literal["local", "ray"] = "local"
    """``local`` trains in this process, ``ray`` on ``workers`` processes through Ray Train."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that train one model together, each on its share of every batch."""
    gpus_per_worker: Literal[0, 1, "auto"] = "auto"
    """GPUs of each worker; ``auto`` is 1 if ``device`` means a GPU, else 0."""
    address: str | None = None
    """Ray cluster to use, such as ``auto`` or ``10.0.0.5:6379``; that of ``RAY_ADDRESS`` if null,
    or else one that is started on this machine and stopped again."""

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", value):
            raise ValueError(f"must be auto, cpu, cuda or cuda:N, not {value!r}")
        return value

    @model_validator(mode="after")
    def _fits_the_engine(self) -> ComputeBlock:
        if self.engine == "local":
            given = {
                f"workers: {self.workers}": self.workers > 1,
                f"gpus_per_worker: {self.gpus_per_worker}": self.gpus_per_worker != "auto",
                f"address: {self.address}": self.address is not None,
            }
            if any(given.values()):
                named = ", ".join(text for text, is_given in given.items() if is_given)
                raise ValueError(f"{named} without engine: ray; add it, or leave them out")
        elif self.gpus_per_worker == 1 and self.device == "cpu":
            raise ValueError("gpus_per_worker: 1 contradicts device: cpu")
        return self


class TrackingBlock(Block):
    """Experiment tracker, provided by a plugin."""

    name: str = Field(min_length=1)
    options: dict[str, Any] = {}


class Pipeline(Block):
    """A pipeline: one YAML file, or the same made in Python."""

    version: Literal[1]
    """Version of this format."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    """Root seed: splits, candidates and, unless ``seeds`` is given, models."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] | None = None
    """Train and evaluate every recommender once for each of these seeds, all different."""
    data: DataBlock
    split: SplitBlock
    backbone: ComponentRef | None = None
    """The collaborative-filtering backbone, which is also a recommender of its own."""
    baseline: ComponentRef | None = None
    """A baseline as the pipeline's recommender, if there is no backbone."""
    encoders: Encoders = Encoders()
    """Encoders of the items' content."""
    align: ComponentRef | None = None
    """Brings the backbone's vectors and the encoders' together; then it is the pipeline's
    recommender, and the backbone alone is compared with it."""
    prompt: ComponentRef | None = None
    """A language model that re-ranks what the alignment, or else the backbone, retrieves; then it
    is the pipeline's recommender, and what it stands on is compared with it."""
    evidence: list[EvidenceRef] = []
    """Extractors of evidence for what is recommended, each on the alignment, or else the backbone.
    The prompt reads what they find, if it takes evidence, and explanations are made of it.
    """
    explain: ExplainBlock | None = None
    """Explanations of what the pipeline's recommender recommends, by the evidence for it."""
    ablation: list[Ablation] = []
    """Variants of the alignment or of the prompt, each trained and compared with the whole."""
    controls: list[Control] = []
    """Controls of the alignment: ``shuffled_features`` is the same with every item's vectors
    dealt to another, ``popularity_bias`` is the backbone with a term in popularity alone. What
    they reach does not come from content. A control of the prompt: ``shuffled_evidence`` is the
    same, trained and asked with every item's evidence dealt to another; what it reaches does not
    come from what the evidence says.
    """
    robustness: Robustness | None = None
    """Rank again with modalities taken away from a share of the items."""
    online: OnlineRef | None = None
    """Adapts to the stream of a split ``streaming``, window by window, with everything else
    frozen."""
    evaluate: EvaluateBlock = EvaluateBlock()
    compute: ComputeBlock = ComputeBlock()
    tracking: TrackingBlock | None = None
    search: SearchBlock | None = None
    """What ``dynmm tune`` searches; ``dynmm run`` leaves it aside."""

    @field_validator("seeds")
    @classmethod
    def _are_different(cls, value: list[int] | None) -> list[int] | None:
        repeated = [seed for seed in distinct(value or ()) if (value or []).count(seed) > 1]
        if repeated:
            raise ValueError(
                f"lists {', '.join(map(str, repeated))} more than once; the same seed gives the"
                " same numbers again, so list each once"
            )
        return value

    @model_validator(mode="after")
    def _has_one_recommender(self) -> Pipeline:
        if (self.backbone is None) == (self.baseline is None):
            raise ValueError("name exactly one recommender: a backbone or a baseline")
        if self.align is not None and self.backbone is None:
            raise ValueError("align needs a backbone to stand on")
        if self.align is not None and not self.encoders.given:
            raise ValueError("align needs encoders, such as encoders: {text: sentence_text}")
        if self.prompt is not None and self.backbone is None:
            raise ValueError("prompt needs a backbone, which retrieves what it ranks")
        if self.evidence and self.backbone is None:
            raise ValueError("evidence needs a backbone, on whose vectors it rests")
        if self.online is None and any(ref.refresh for ref in self.evidence):
            raise ValueError("refresh keeps evidence up to date with a stream; it needs online")
        if self.explain is not None and not self.evidence:
            raise ValueError("explain needs evidence, such as evidence: [cf_neighbours, trend]")
        variants = [v for v in self.ablation if v.prompt is None]
        aligned = [c for c in self.controls if controlled(c) == "align"]
        if len(aligned) < len(self.controls) and not (self.prompt and self.evidence):
            raise ValueError(
                "the control shuffled_evidence is of a prompt that reads evidence: it needs prompt"
                " and evidence"
            )
        if self.align is None and (variants or aligned or self.robustness):
            raise ValueError(
                "ablation, controls and robustness are of an alignment, and there is none (align)"
            )
        if self.prompt is None and len(variants) < len(self.ablation):
            raise ValueError("an ablation changes the prompt, and there is none (prompt)")
        if self.online is not None and self.backbone is None:
            raise ValueError("online needs a backbone to stand on")
        if self.online is not None and not isinstance(self.split, Streaming):
            raise ValueError("online needs a stream: split: {strategy: streaming}")
        names = [fold(variant.name) for variant in self.ablation]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two ablations are named {', '.join(sorted(repeated))}")
        if clash := {*names} & {*self.controls}:
            raise ValueError(f"{', '.join(sorted(clash))} is a control's name, not an ablation's")
        return self

    @field_validator("controls")
    @classmethod
    def _each_control_once(cls, value: list[Control]) -> list[Control]:
        return distinct(value)

    @property
    def model_seeds(self) -> tuple[int, ...]:
        return tuple(self.seeds) if self.seeds else (self.seed,)

    @property
    def recommenders(self) -> dict[str, ComponentRef]:
        """All recommenders by the label under which their numbers appear, the pipeline's own first.

        The label is the folded name; a name that appears again gets ``#2``, ``#3`` … Controls and
        ablations come last, as the label of what they vary, a dash, and what they are.
        """
        return {label: ref for label, (_, ref) in self._labelled().items()}

    @property
    def extractors(self) -> dict[str, EvidenceRef]:
        """All extractors of evidence by name; a name that appears again gets ``#2``, ``#3`` …"""
        found: dict[str, EvidenceRef] = {}
        for ref in self.evidence:
            name = fold(ref.name.rsplit("/", 1)[-1])
            number = 1 + sum(known.split("#")[0] == name for known in found)
            found[name if number == 1 else f"{name}#{number}"] = ref
        return found

    @property
    def roles(self) -> dict[str, Role]:
        """What each recommender is: an alignment, a prompt, or a model of its own (``fit``)."""
        return {label: role for label, (role, _) in self._labelled().items()}

    def own(self, role: Role) -> str | None:
        """Returns the label of the pipeline's own alignment, prompt, or model of its own."""
        if role != "fit" and getattr(self, role) is None:
            return None
        return next(label for label, found in self.roles.items() if found == role)

    def _labelled(self) -> dict[str, tuple[Role, ComponentRef]]:
        labels: dict[str, tuple[Role, ComponentRef]] = {}

        def add(role: Role, ref: ComponentRef) -> str:
            name = fold(ref.name.rsplit("/", 1)[-1])
            number = 1 + sum(label.split("#")[0] == name for label in labels)
            label = name if number == 1 else f"{name}#{number}"
            labels[label] = (role, ref)
            return label

        whole: dict[Role, str] = {}
        if self.prompt is not None:
            whole["prompt"] = add("prompt", self.prompt)
        if self.align is not None:
            whole["align"] = add("align", self.align)
        for ref in (self.backbone, self.baseline, *self.evaluate.compare_with):
            if ref is not None:
                add("fit", ref)
        for control in self.controls:
            varied = controlled(control)
            own: ComponentRef | None = getattr(self, varied)
            if own is not None:
                labels[f"{whole[varied]}-{control}"] = (varied, own)
        for variant in self.ablation:
            role: Role = "align" if variant.prompt is None else "prompt"
            ref = variant.prompt or variant.align or self.align
            if ref is not None and role in whole:
                labels[f"{whole[role]}-{fold(variant.name)}"] = (role, ref)
        return labels

    def control_of(self, label: str) -> Control | None:
        """Returns the control that a recommender is, if it is one."""
        found = (control for control in self.controls if label.endswith(f"-{control}"))
        return next(found, None)
