from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sequence_model import MAX_LENGTH, N_ITEMS, Settings, encode, inputs_of, network
from torch import nn

from dynmm_framework.training.transformer import hidden_padding, initialise

NORMS = ("original", "pre", "post")
ONE_BLOCK = ((2, 4),)
WAYS: list[dict[str, Any]] = [
    {"causal": True},
    {"causal": True, "ends_only": True},
    {"causal": False},
    {"causal": False, "ends_only": True},
]


def some_rows(sizes: tuple[int, ...] = (3, 8, 1, 2, 7, 5, 3, 8, 1, 6)) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, N_ITEMS, size=size).tolist() for size in sizes]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_later_items_never_influence_earlier_states(norm: str, training: bool) -> None:
    made = network(norm=norm).train(training)
    rng = np.random.default_rng(0)
    items = rng.integers(0, N_ITEMS, (4, MAX_LENGTH))
    changed = items.copy()
    changed[:, 5:] = rng.integers(0, N_ITEMS, (4, 3))
    results = []
    for rows in (items, changed):
        torch.manual_seed(1)
        results.append(torch.stack(encode(made, rows.tolist())))
    torch.testing.assert_close(results[0][:, :5], results[1][:, :5])
    assert not torch.allclose(results[0][:, 5:], results[1][:, 5:])


def test_without_causality_every_state_sees_the_whole_sequence() -> None:
    made = network()
    (one,), (other,) = (encode(made, [row], causal=False) for row in ([1, 2, 3, 4], [1, 2, 3, 5]))
    assert not torch.isclose(one[:3], other[:3]).all(-1).any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("norm", NORMS)
def test_training_without_dropout_computes_what_serving_computes(
    norm: str, way: dict[str, Any]
) -> None:
    sizes = Settings(dropout=0.0, attention_dropout=1e-6)  # keeps the training path
    made, rows = network(sizes=sizes, norm=norm), some_rows()
    expected = encode(made, rows, **way)
    for ours, theirs in zip(encode(made.train(), rows, **way), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_company_padding_and_asking_for_ends_only_change_no_state(norm: str, causal: bool) -> None:
    made, rows = network(norm=norm).double(), some_rows()
    alone = [encode(made, [row], causal=causal)[0] for row in rows]
    for single in (False, True):
        together = encode(made, rows, single=single, causal=causal)
        ends = encode(made, rows, single=single, causal=causal, ends_only=True)
        for states, end, expected in zip(together, ends, alone, strict=True):
            torch.testing.assert_close(states, expected)
            torch.testing.assert_close(end, expected[-1])


def test_positions_count_from_the_newest_item() -> None:
    inputs, _ = inputs_of([[0, 1], [2, 3, 4]], single=True)
    assert inputs.positions.tolist()[:2] == [6, 7]
    assert inputs.positions.tolist()[3:] == [5, 6, 7]


def test_special_vectors_are_no_items() -> None:
    made = network(n_special=2)
    assert made.items.weight.shape == (N_ITEMS + 2, 16)
    torch.testing.assert_close(made.vectors, made.items.weight[:N_ITEMS])
    assert network().vectors is network().items.weight or network().vectors.shape == (N_ITEMS, 16)


def test_original_norm_adds_the_residual_to_the_normalised_query() -> None:
    block = network(norm="original").blocks[0]
    x = torch.randn(8, 16)
    normed = block.attention_norm(x)
    middle = block.feed_forward_norm(normed + block.attention(normed, x, ONE_BLOCK))
    expected = middle + block.down(block.activation(block.up(middle)))
    torch.testing.assert_close(block(x, ONE_BLOCK), expected)


def test_pre_and_post_norm_follow_their_formulas() -> None:
    x = torch.randn(8, 16)
    block = network(norm="pre").blocks[0]
    normed = block.attention_norm(x)
    middle = x + block.attention(normed, normed, ONE_BLOCK)
    inner = block.feed_forward_norm(middle)
    expected = middle + block.down(block.activation(block.up(inner)))
    torch.testing.assert_close(block(x, ONE_BLOCK), expected)
    block = network(norm="post").blocks[0]
    middle = block.attention_norm(x + block.attention(x, x, ONE_BLOCK))
    expected = block.feed_forward_norm(middle + block.down(block.activation(block.up(middle))))
    torch.testing.assert_close(block(x, ONE_BLOCK), expected)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_agrees_with_its_formula(causal: bool) -> None:
    attention = network().blocks[0].attention
    x = torch.randn(3, 16)
    q, k, v = (layer(x) for layer in (attention.query, attention.key, attention.value))
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = q[:, part] @ k[:, part].T / math.sqrt(8)
        if causal:
            scores[torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)] = -torch.inf
        heads.append(scores.softmax(-1) @ v[:, part])
    hidden = None if causal else [None]
    torch.testing.assert_close(
        attention(x, x, ((1, 3),), hidden=hidden), attention.output(torch.cat(heads, dim=-1))
    )


def test_padding_is_hidden_where_there_is_some() -> None:
    # Rows of a block need not be sorted: those made on a device are not.
    lengths = torch.tensor([3, 1, 2, 2])
    inputs, _ = inputs_of([[1]])
    made = hidden_padding(type(inputs)(**{**vars(inputs), "lengths": lengths,
                                          "blocks": ((2, 3), (2, 2))}))  # fmt: skip
    assert made[1] is None
    assert made[0] is not None
    assert made[0][:, 0, 0].isinf().tolist() == [[False] * 3, [False, True, True]]


def test_initial_weights_follow_their_distribution() -> None:
    module = nn.Sequential(nn.Linear(300, 200), nn.LayerNorm(200), nn.Embedding(300, 200))
    initialise(module, std=0.02)
    assert module[0].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert (module[0].bias == 0).all()
    assert (module[1].weight == 1).all()
    initialise(module, std=0.02, how="xavier")
    assert module[2].weight.std().item() == pytest.approx(math.sqrt(2 / 500), rel=0.02)
