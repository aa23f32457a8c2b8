from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from sequence_cases import context, cycles, training_data

from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import BackboneConformance
from dynmm_framework.testing.contexts import ContextFactory, TrainingStopped
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.sequences import Inputs, prepare
from dynmm_plugins.s3rec import network as network_module
from dynmm_plugins.s3rec.attributes import Attributes
from dynmm_plugins.s3rec.config import PretrainingConfig, S3RecConfig
from dynmm_plugins.s3rec.model import S3Rec
from dynmm_plugins.s3rec.network import Network, Pretraining, weighted_softplus
from dynmm_plugins.s3rec.prefixes import Prefixes

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "feed_forward_size": 32,
    "max_length": 8,
    "batch_size": 32,
    "dropout": 0.1,
    "attention_dropout": 0.1,
}


class TestS3RecConformance(BackboneConformance):
    component: ClassVar[str] = "s3rec"
    config: ClassVar[dict[str, Any]] = {
        **SMALL,
        "loss": "ce",
        "epochs": 9,
        "learning_rate": 0.01,
        "pretraining": {"epochs": 3, "prefixes": "one", "batch_size": 32, "learning_rate": 0.01},
    }
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.42, 0.52)}


def small(pretraining: dict[str, Any] | None = None, **settings: Any) -> S3RecConfig:
    return S3RecConfig(**{**SMALL, **settings}, pretraining=PretrainingConfig(**pretraining or {}))


LISTS = [[3, 1, 4, 1, 5, 9, 2, 6], [5, 3], [8], [], [9, 7, 9, 3, 2]]
N_ITEMS = 10
ATTRIBUTES: list[Any] = [["a"], ["a", "b"], [], ["b", "c"], None, ["c"], ["d", "a"], ["b", "b"]]
ATTRIBUTES += [["d"], ["a", None]]


def prefixes(config: S3RecConfig | None = None, lists: list[list[int]] = LISTS) -> Prefixes:
    data = training_data(lists, N_ITEMS, ATTRIBUTES)
    attributes = Attributes.read(data.items, "categories", stage="s")
    return Prefixes(data.histories, attributes, config or small(), device="cpu")


def pretraining(**settings: Any) -> Pretraining:
    torch.manual_seed(0)
    config = small(init_std=0.4, **settings)
    return Pretraining(config, Network(config, N_ITEMS), 4).double().eval()


def sequences(inputs: Inputs) -> list[list[int]]:
    """Returns the items of each sequence."""
    out, start = [], 0
    lengths = iter(inputs.lengths.tolist())
    for rows, width in inputs.blocks:
        for _ in range(rows):
            out.append(inputs.items[start : start + next(lengths)].tolist())
            start += width
    return out


def inputs_of(rows: list[list[int]], *, single: bool = False) -> Inputs:
    """Lays out sequences; their order must be by length."""
    lengths = np.array([len(row) for row in rows])
    layout = lay_out(lengths, single=single)
    items = np.concatenate([rows[index] for index in layout.order])
    return prepare(layout, lengths, items, max_length=8, device="cpu")


def test_attributes_are_distinct_and_may_be_missing() -> None:
    attributes = prefixes().attributes
    assert attributes.size == 4
    assert attributes.counts.tolist() == [1, 2, 0, 2, 0, 1, 2, 1, 1, 1]
    ids, offsets = attributes.of(np.array([6, 2, 3]))
    assert (ids.tolist(), offsets.tolist()) == ([0, 3, 1, 2], [0, 2, 2])


def test_attributes_of_another_type_are_a_clear_error() -> None:
    table = pa.table({"id": ["x"], "title": ["t"]})
    with pytest.raises(StageError, match="column 'title' of the item table holds string, not"):
        Attributes.read(table, "title", stage="s")
    assert Attributes.read(table, "categories", stage="s").size == 0


def test_an_epoch_reads_all_prefixes_or_one_of_each_sequence() -> None:
    def lengths(settings: dict[str, Any], seed: int = 0) -> list[int]:
        made = prefixes(small({"batch_size": 4, "sp_weight": 0.0, **settings}, max_length=6))
        batches = list(made.batches(np.random.default_rng(seed)))
        assert len(batches) == made.n_batches
        assert all(batch.segments is None for batch in batches)
        found = [n for batch in batches for n in batch.inputs.lengths.tolist()]
        assert sum(batch.rows for batch in batches) == len(found)
        return sorted(found)

    assert lengths({}) == sorted([*range(1, 7), 1, 2, 1, *range(1, 6)])
    drawn = np.array([lengths({"prefixes": "one"}, seed) for seed in range(300)])
    assert drawn.shape == (300, 4)
    assert set(drawn.flat) == {1, 2, 3, 4, 5, 6}


def test_the_newest_item_and_a_fifth_of_the_others_are_masked() -> None:
    made = prefixes(small({"batch_size": 1000}))
    masked = others = 0
    for seed in range(200):
        (batch,) = made.batches(np.random.default_rng(seed))
        hidden = batch.inputs.items[batch.masked]
        assert (hidden == N_ITEMS).all()
        assert set(batch.inputs.ends.tolist()) <= set(batch.masked.tolist())
        masked += len(batch.masked) - batch.rows
        others += int(batch.inputs.lengths.sum()) - batch.rows
    assert masked / others == pytest.approx(0.2, abs=0.02)


def test_masked_items_are_the_targets_and_negatives_are_no_items_of_the_user() -> None:
    made = prefixes(small({"batch_size": 1, "mask_probability": 0.5}))
    rng = np.random.default_rng(0)
    seen = set()
    for batch in (batch for _ in range(50) for batch in made.batches(rng)):
        items = batch.inputs.items.clone()
        items[batch.masked] = batch.targets
        found = tuple(items.tolist())
        owners = [row for row in LISTS if found == tuple(row[: len(found)])]
        assert owners
        seen.add(found)
        assert any(not set(row) & set(batch.negatives.tolist()) for row in owners)
    assert len(seen) == 8 + 2 + 1 + 5


def test_attributes_follow_their_places_unmasked_first() -> None:
    made = prefixes(small({"batch_size": 1000, "mask_probability": 0.4}))
    (batch,) = made.batches(np.random.default_rng(1))
    items = batch.inputs.items.clone()
    items[batch.masked] = batch.targets
    places = batch.described.tolist()
    is_masked = [place in set(batch.masked.tolist()) for place in places]
    assert is_masked == sorted(is_masked)
    assert is_masked.count(False) == batch.n_unmasked > 0
    real = {int(end) - step for end, n in zip(batch.inputs.ends, batch.inputs.lengths, strict=True)
            for step in range(int(n))}  # fmt: skip
    described = {place for place in real if int(items[place]) not in (2, 4)}
    assert set(places) == described
    bounds = [*batch.offsets.tolist(), len(batch.attributes)]
    for place, start, stop in zip(places, bounds, bounds[1:], strict=False):
        expected, _ = made.attributes.of(items[place][None].numpy())
        assert batch.attributes[start:stop].tolist() == expected.tolist()


def test_segments_are_cut_out_and_foreign_ones_are_runs_of_the_data() -> None:
    made = prefixes(small({"batch_size": 1000}))
    flat = [item for row in LISTS for item in row]
    cuts = set()
    for seed in range(100):
        (batch,) = made.batches(np.random.default_rng(seed))
        assert batch.segments is not None
        rows = sequences(batch.segments.inputs)
        places = batch.segments.places.tolist()
        assert len(places[0]) == batch.rows - 4  # four prefixes of one item
        for rest, own, foreign in zip(*([rows[i] for i in part] for part in places), strict=True):
            inside = [place for place, item in enumerate(rest) if item == N_ITEMS]
            assert inside == list(range(inside[0], inside[-1] + 1))
            assert 1 <= len(inside) <= len(rest) // 2
            whole = [
                o if i in inside else c for i, (c, o) in enumerate(zip(rest, own, strict=True))
            ]
            assert any(whole == row[: len(whole)] for row in LISTS)
            run = foreign[inside[0] : inside[-1] + 1]
            assert any(flat[i : i + len(run)] == run for i in range(len(flat)))
            for row in (own, foreign):
                assert [i for i, item in enumerate(row) if item != N_ITEMS] == inside
            cuts.add((len(rest), inside[0], len(inside)))
    # Every size up to half of the length, at every place.
    assert {cut for cut in cuts if cut[0] == 5} == {
        *((5, start, 1) for start in range(5)), *((5, start, 2) for start in range(4))
    }  # fmt: skip


def test_attribute_losses_agree_with_their_definition() -> None:
    module = pretraining(pretraining={"batch_size": 1000, "mask_probability": 0.4})
    (batch,) = prefixes(module_config(module)).batches(np.random.default_rng(0))
    states = module.network(batch.inputs, causal=False).detach().requires_grad_()
    items = batch.inputs.items.clone()
    items[batch.masked] = batch.targets
    expected = torch.zeros((), dtype=torch.float64)
    attributes = prefixes().attributes
    for n, place in enumerate(batch.described.tolist()):
        ids, _ = attributes.of(items[place][None].numpy())
        wanted = torch.zeros(4, dtype=torch.float64)
        wanted[ids] = 1
        projection, weight = (module.aap, 0.2) if n < batch.n_unmasked else (module.map, 1.0)
        scores = (module.attributes.weight * projection(states[place])).sum(-1).sigmoid()
        terms = wanted * scores.log() + (1 - wanted) * (1 - scores).log()
        expected = expected - weight * terms.sum()
    parameters = [states, module.attributes.weight, module.aap.weight, module.map.bias]
    loss = module.attribute_losses(states, batch)
    torch.testing.assert_close(loss, expected, check_dtype=False, rtol=1e-6, atol=0)
    ours = torch.autograd.grad(loss, parameters, retain_graph=True)
    theirs = torch.autograd.grad(expected, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def module_config(module: Pretraining) -> S3RecConfig:
    return small(module.settings.model_dump())


def log_sigmoid_of_difference(own: torch.Tensor, foreign: torch.Tensor) -> torch.Tensor:
    return -(1 / (1 + (foreign.sigmoid() - own.sigmoid()).exp())).log()


def test_the_item_loss_agrees_with_its_definition() -> None:
    module = pretraining(pretraining={"batch_size": 1000})
    (batch,) = prefixes(module_config(module)).batches(np.random.default_rng(0))
    states = module.network(batch.inputs, causal=False)
    vectors = module.network.items.weight
    expected = torch.zeros((), dtype=torch.float64)
    for place, target, negative in zip(batch.masked, batch.targets, batch.negatives, strict=True):
        row = module.mip(states[place])
        expected = expected + log_sigmoid_of_difference(
            row @ vectors[target], row @ vectors[negative]
        )
    torch.testing.assert_close(module.item_loss(states, batch), expected)


def test_the_segment_loss_agrees_with_its_definition() -> None:
    module = pretraining(pretraining={"batch_size": 1000})
    (batch,) = prefixes(module_config(module)).batches(np.random.default_rng(0))
    assert batch.segments is not None
    ends = [  # one by one, all positions of the last block
        module.network(inputs_of([row]), causal=False)[-1]
        for row in sequences(batch.segments.inputs)
    ]
    expected = torch.zeros((), dtype=torch.float64)
    for rest, own, foreign in batch.segments.places.T.tolist():
        row = module.sp(ends[rest])
        expected = expected + log_sigmoid_of_difference(row @ ends[own], row @ ends[foreign])
    torch.testing.assert_close(module.segment_loss(batch.segments), expected)


def test_the_loss_is_the_weighted_sum_of_the_four_by_prefix() -> None:
    module = pretraining(pretraining={"batch_size": 1000})
    (batch,) = prefixes(module_config(module)).batches(np.random.default_rng(0))
    assert batch.segments is not None
    states = module.network(batch.inputs, causal=False)
    expected = module.attribute_losses(states, batch) + module.item_loss(states, batch)
    expected = expected + 0.5 * module.segment_loss(batch.segments)
    torch.testing.assert_close(module(batch), expected / 16)


def test_weighted_softplus_and_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    rows = (3 * torch.randn(7, 3, dtype=torch.float64)).requires_grad_()
    vectors = (3 * torch.randn(5, 3, dtype=torch.float64)).requires_grad_()
    weights = torch.rand(7, dtype=torch.float64)
    expected = (torch.nn.functional.softplus(rows @ vectors.T).sum(1) * weights).sum()
    theirs = torch.autograd.grad(2 * expected, [rows, vectors])
    for chunk in (1 << 20, 10):
        monkeypatch.setattr(network_module, "CHUNK_LOGITS", chunk)
        total = weighted_softplus(rows, vectors, weights)
        torch.testing.assert_close(total, expected)
        ours = torch.autograd.grad(2 * total, [rows, vectors])
        torch.testing.assert_close(ours, theirs)
    far = torch.tensor([[200.0], [-200.0]])
    total = weighted_softplus(far, torch.ones(1, 1), torch.ones(2))
    assert total.item() == pytest.approx(200)


def test_it_learns_a_circle(tmp_path: Path) -> None:
    settings = {"learning_rate": 0.01, "dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.1}
    phase = {"epochs": 3, "prefixes": "one", "batch_size": 32}
    for loss in ("bce", "ce"):
        model = S3Rec(small(phase, epochs=25, loss=loss, **settings))
        model.fit(cycles(), context(tmp_path / loss))
        histories = Histories.of([[3, 4, 5], [18, 19], [7]], 20)
        scores = model.user_vectors(histories) @ model.item_vectors().T
        scores[histories.rows, histories.items] = -np.inf
        assert scores.argmax(1).tolist() == [6, 0, 8]


def test_both_phases_are_recorded_and_only_the_second_is_validated(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    ctx = dynmm_context()
    S3Rec(small({"epochs": 3, "prefixes": "one"}, epochs=2)).fit(
        dynmm_split.training_data(dynmm_dataset.items), ctx
    )
    first, second = ctx.records["pre-training"]["epochs"], ctx.records["training"]["epochs"]
    assert [len(first), len(second)] == [3, 2]
    assert not any("ndcg@10" in epoch for epoch in first)
    assert all("ndcg@10" in epoch for epoch in second)
    assert first[-1]["loss"] < first[0]["loss"]


def test_a_finished_pre_training_is_not_repeated(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    config = small({"epochs": 2, "prefixes": "one"}, epochs=6, checkpoint_seconds=0.0)
    whole = S3Rec(config)
    whole.fit(data, dynmm_context())
    killed = dynmm_context(stop_after=4)
    with pytest.raises(TrainingStopped):
        S3Rec(config).fit(data, killed)
    assert killed.epochs == [1, 2, 1, 2, 3, 4]
    other = dynmm_context(workdir=killed.workdir, stop_after=1)
    with pytest.raises(TrainingStopped):  # of other settings: starts over
        S3Rec(small({"epochs": 3, "prefixes": "one"}, epochs=6)).fit(data, other)
    going_on, resumed = dynmm_context(workdir=killed.workdir), S3Rec(config)
    resumed.fit(data, going_on)
    assert going_on.epochs == [4, 5, 6]
    np.testing.assert_array_equal(resumed.item_vectors(), whole.item_vectors())


def test_a_damaged_pre_training_starts_over(tmp_path: Path) -> None:
    (tmp_path / "pretrained.safetensors").write_bytes(b"half")
    epochs: list[int] = []
    ctx = context(tmp_path, epoch_finished=lambda epoch, metrics: epochs.append(epoch))
    S3Rec(small({"epochs": 2, "prefixes": "one"}, epochs=1)).fit(cycles(), ctx)
    assert epochs == [1, 2, 1]


def test_a_table_without_attributes_is_said_in_the_log(tmp_path: Path) -> None:
    log: list[str] = []
    data = training_data([[0, 1, 2], [1, 2, 0]], 3)
    model = S3Rec(small({"epochs": 1}, epochs=1))
    model.fit(data, context(tmp_path, log=log.append))
    assert log == [
        "items have no attributes in column 'categories': pre-training by MIP and SP alone"
    ]
    assert np.isfinite(model.item_vectors()).all()


def test_no_pre_training_and_bf16_train(tmp_path: Path) -> None:
    for name, epochs in (("none", 0), ("some", 1)):
        model = S3Rec(small({"epochs": epochs, "prefixes": "one"}, epochs=1))
        model.fit(cycles(), context(tmp_path / name, precision="bf16"))
        assert np.isfinite(model.item_vectors()).all()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> S3Rec:
    model = S3Rec(small({"epochs": 2, "prefixes": "one"}, epochs=4, learning_rate=0.01))
    model.fit(cycles(), context(tmp_path_factory.mktemp("fit")))
    return model


def test_only_the_newest_items_count_and_the_mask_is_no_item(fitted: S3Rec) -> None:
    newest = [1, 2, 3, 4, 5, 6, 7, 8]
    vectors = fitted.user_vectors(Histories.of([[9, 9, *newest], newest], 20))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert fitted.item_vectors().shape == (20, 16)


def test_state_of_another_configuration_is_refused(fitted: S3Rec) -> None:
    with pytest.raises(ArtifactError, match=r"stored weights do not fit Network: .*blocks\.1"):
        S3Rec(small(layers=1)).load_state(fitted.get_state())
    with pytest.raises(ArtifactError, match="S3-Rec: empty_history missing"):
        S3Rec(fitted.config).load_state(
            {key: value for key, value in fitted.get_state().items() if key != "empty_history"}
        )


def test_what_cannot_be_done_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="S3-Rec is not fitted"):
        S3Rec(small()).item_vectors()
    with pytest.raises(StageError, match="no user has two training interactions"):
        S3Rec(small()).fit(training_data([[1], [2], []], 5), context(tmp_path))
    with pytest.raises(ValidationError, match=r"heads \(3\) must divide hidden_size \(16\)"):
        small(heads=3)
    weights = dict.fromkeys(("aap_weight", "mip_weight", "map_weight", "sp_weight"), 0.0)
    with pytest.raises(ValidationError, match="all four weights are 0"):
        PretrainingConfig(**weights)


def test_the_defaults_are_those_of_the_paper() -> None:
    config = S3RecConfig()
    first = config.pretraining
    assert (first.epochs, first.batch_size, first.mask_probability) == (100, 200, 0.2)
    assert (first.aap_weight, first.mip_weight, first.map_weight, first.sp_weight) == (
        0.2, 1.0, 1.0, 0.5
    )  # fmt: skip
    assert (config.hidden_size, config.layers, config.heads) == (64, 2, 2)
    assert (config.batch_size, config.learning_rate, config.dropout) == (256, 1e-3, 0.5)
    assert config.average == 0.998  # not the paper
