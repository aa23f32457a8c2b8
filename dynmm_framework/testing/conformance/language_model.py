"""What holds for frozen language models that are reached through their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.component import ComponentConformance, require

TEXTS = ("A short text", "Another one, which is longer than the first")
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}
"""Differences that the order of float32 additions may make."""


class LanguageModelConformance(ComponentConformance):
    """Conformance of language models with embeddings. Set ``component`` and ``config``."""

    kind: ClassVar[Kind] = "language_model"

    @pytest.fixture
    def loaded(self, make: Callable[..., Any], dynmm_catalogue: Catalogue) -> Any:
        """The model, loaded once for the class."""
        cls: Any = type(self)
        if "_loaded" not in cls.__dict__:
            model = make()
            model.load(RunContext(Surroundings(dynmm_catalogue), stage="test"))
            cls._loaded = model
        return cls._loaded

    def _rows(self, model: Any) -> tuple[Any, Any, list[list[int]]]:
        """Returns padded ids ``(2, length)``, their mask, and the rows as they are."""
        import torch

        rows = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), model.pad_id)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        mask = torch.arange(length)[None] < torch.tensor([len(row) for row in rows])[:, None]
        return ids, mask, rows

    def test_it_says_what_it_is(self, loaded: Any) -> None:
        ids, _, _ = self._rows(loaded)
        embeddings = loaded.embed(ids)
        require(
            tuple(embeddings.shape) == (*ids.shape, loaded.hidden_size),
            f"embed(ids) has shape {tuple(embeddings.shape)} for ids {tuple(ids.shape)} and a"
            f" hidden_size of {loaded.hidden_size}.",
        )
        require(loaded.context_length > 0, "context_length must be the most tokens it can read.")
        require(loaded.embedding_norm() > 0, "embedding_norm() must be the mean norm of its rows.")

    def test_padding_and_prefixes_change_nothing(self, loaded: Any) -> None:
        import torch

        ids, mask, rows = self._rows(loaded)
        words = loaded.embed(ids)
        together = loaded.forward(words, mask=mask)
        prefix = loaded.prefill(words[:, :3], mask=mask[:, :3])
        rest = loaded.forward(words[:, 3:], mask=mask[:, 3:], prefix=prefix)
        for number, row in enumerate(rows):
            alone = loaded.forward(loaded.embed(torch.tensor([row])))[0]
            require(
                torch.allclose(together[number, : len(row)], alone, **CLOSE),
                "a text's hidden states depend on its padding: mask it, and count positions along"
                " the tokens.",
            )
            require(
                torch.allclose(rest[number, : len(row) - 3], alone[3:], **CLOSE),
                "a text's hidden states after a prefix differ from those of the whole text.",
            )

    def test_only_embeddings_take_gradients_and_weights_stay(self, loaded: Any) -> None:
        ids, mask, _ = self._rows(loaded)
        before = loaded.weights_digest()
        words = loaded.embed(ids).detach().requires_grad_(True)
        loaded.logits(loaded.forward(words, mask=mask)[:, -1]).square().mean().backward()
        require(
            words.grad is not None and bool(words.grad.abs().sum() > 0),
            "no gradient reaches the embeddings that went in, so no soft token could be trained.",
        )
        require(
            loaded.weights_digest() == before,
            "weights_digest() differs after a backward pass: nothing may change a frozen model.",
        )

    def test_generation_is_bounded_and_the_same_again(self, loaded: Any) -> None:
        ids, mask, _ = self._rows(loaded)
        options: dict[str, Any] = {"mask": mask, "max_new_tokens": 4, "stop": "length"}
        texts = [list(loaded.generate(loaded.embed(ids), **options)) for _ in range(2)]
        require(texts[0] == texts[1], f"generation is greedy, and yet differs: {texts}.")
        tokens = [
            loaded.tokenizer(said.text, add_special_tokens=False)["input_ids"] for said in texts[0]
        ]
        require(
            len(texts[0]) == len(ids) and max(map(len, tokens)) <= 3 * 4,
            "generate returns one text for each row, of at most max_new_tokens tokens.",
        )
