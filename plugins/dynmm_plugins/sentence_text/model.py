"""Any sentence-transformers or Hugging Face encoder as an encoder of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from dynmm_framework.artifacts.pretrained import load_strictly, quiet_transformers, unloadable
from dynmm_framework.artifacts.weights import locate
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Context, FloatArray
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.sentence_text.config import SentenceTextConfig

FORWARD_ROWS = 64
"""Texts in one forward pass; those of one call are sorted by length first."""


class SentenceText:
    """Sentence-BERT and its kin (Reimers & Gurevych, EMNLP-IJCNLP 2019, arXiv:1908.10084).

    A frozen transformer reads a text; its token vectors are pooled, and normalised if the model
    says so. Padding is masked, so a vector does not depend on the company of its text but for
    the order of float32 additions (below 1e-6).

    Texts longer than ``max_length`` tokens are cut. Costs O(length²) for each text and layer.
    """

    modality = "text"

    def __init__(self, config: SentenceTextConfig) -> None:
        self.config = config
        self.dim = 0
        self._model: SentenceTransformer | None = None

    def load(self, ctx: Context) -> None:
        folder = locate(
            self.config.model,
            self.config.revision,
            ctx,
            instead="Without a hub: the record all_minilm_l6_v2, or tfidf_text.",
        )
        if folder.is_file():
            raise ArtifactError(
                f"{folder} is a file; a sentence encoder is a folder with settings and a tokenizer",
                hint=f"Name its folder: {folder.parent}",
            )
        with seeded(ctx, "weights"):
            model = self._load(folder, ctx.device)
        limit = model.max_seq_length
        if self.config.max_length is not None:
            if limit is not None and self.config.max_length > limit:
                raise StageError(
                    f"stage {ctx.stage}: max_length {self.config.max_length} is more than the "
                    f"{limit} tokens that {folder} was made for",
                    hint=f"Set max_length to {limit} or less, or leave it out.",
                )
            model.max_seq_length = self.config.max_length
        self._model = model.eval().requires_grad_(False)
        self.dim = int(model.encode([""], show_progress_bar=False).shape[1])

    def prepare(self, value: str) -> str:
        """Returns the text without white space around it; tokens are made batch by batch."""
        return value.strip()

    def encode(self, batch: Sequence[str]) -> FloatArray:
        if self._model is None:
            raise StageError("sentence_text is not loaded", hint="Call load first.")
        if not batch:
            return np.empty((0, self.dim), np.float32)
        vectors = self._model.encode(
            list(batch),
            prompt=self.config.prompt or None,
            batch_size=FORWARD_ROWS,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)

    def _load(self, folder: Path, device: str) -> SentenceTransformer:
        # Once strictly, for the second loading draws missing weights at random without a word.
        # Token vectors are pooled; the pooler of BERT's pre-training is not used.
        load_strictly(AutoModel, _transformer_folder(folder), unused=("pooler.",))
        dtype = torch.bfloat16 if self.config.bf16 else torch.float32
        try:
            with quiet_transformers():
                return SentenceTransformer(
                    str(folder),
                    device=device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True, "dtype": dtype},
                )
        except Exception as error:
            raise unloadable(folder, error) from error


def _transformer_folder(folder: Path) -> Path:
    """Returns where the transformer's own files are: the folder itself, or a module's in it."""
    inner = folder / "0_Transformer"
    return inner if inner.is_dir() and not (folder / "config.json").is_file() else folder
