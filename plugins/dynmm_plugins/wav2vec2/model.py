"""Wav2vec 2.0 as an encoder of sounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn

from dynmm_framework.artifacts.weights import locate
from dynmm_framework.errors import StageError
from dynmm_framework.protocols import Context, FloatArray
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.wav2vec2.config import Wav2Vec2Config
from dynmm_plugins.wav2vec2.network import RATE, SpeechModel, from_bundle, from_folder

if TYPE_CHECKING:
    from dynmm_framework.features.media import Sound

FORWARD_SAMPLES = 32 * 5 * RATE
"""Samples in one forward pass: 32 clips of five seconds."""
MAX_RATIO = 1000
"""Rates are brought to 16 kHz by a fraction of numbers up to this, with an error of 1e-6 or less
for usual rates; an exact ratio of odd rates would need a filter of gigabytes."""

Waveform = NDArray[np.float32]


class Wav2Vec2:
    """Wav2vec 2.0 (Baevski et al., NeurIPS 2020, arXiv:2006.11477), frozen.

    A sound becomes mono (the mean of its channels), 16 kHz, of mean 0 and variance 1; long ones
    are cut into windows. Its vector is the mean of the last layer over all frames, one each 20 ms
    (a stride of 320 samples), of all its windows. No frame of padding is ever counted: windows of
    one length share a forward pass, and others are padded only for models that mask the padding
    in every layer. (Wav2Vec2-Base does not: its first layer normalises over time.)

    Shapes: ``(n,)`` samples to ``(dim,)``, 768 for the base model. Time is O(window²) for each
    window and layer.
    """

    modality = "audio"

    def __init__(self, config: Wav2Vec2Config) -> None:
        self.config = config
        self.dim = 0
        self._network: SpeechModel | None = None
        self._device = "cpu"

    def load(self, ctx: Context) -> None:
        config = self.config
        with seeded(ctx, "weights"):
            if config.model is None:
                network = from_bundle(config.bundle_name, ctx)
            else:
                folder = locate(
                    config.model,
                    config.revision,
                    ctx,
                    instead="Without a hub: a folder of your own (model: ./wav2vec2).",
                )
                network = from_folder(folder)
        network.module.eval().requires_grad_(False).to(ctx.device)
        self._network = network
        self._device = ctx.device
        self.dim = network.dim

    def prepare(self, value: Sound) -> Waveform:
        """Makes a sound mono, 16 kHz, of mean 0 and variance 1: ``(n,)``."""
        mono = value.samples.mean(axis=0, dtype=np.float32)
        if value.rate != RATE and len(mono):
            ratio = Fraction(value.rate, RATE).limit_denominator(MAX_RATIO)
            mono = torchaudio.functional.resample(
                torch.from_numpy(np.ascontiguousarray(mono)), ratio.numerator, ratio.denominator
            ).numpy()
        if not len(mono):
            return np.zeros(0, np.float32)
        centred = mono - mono.mean(dtype=np.float64)
        out: Waveform = (centred / np.sqrt(centred.var() + 1e-7)).astype(np.float32)
        return out

    @torch.inference_mode()
    def encode(self, batch: Sequence[Waveform]) -> FloatArray:
        if self._network is None:
            raise StageError("wav2vec2 is not loaded", hint="Call load first.")
        window = round(self.config.window_seconds * RATE)
        pieces = [
            (row, piece)
            for row, waveform in enumerate(batch)
            for piece in _windows(waveform, window, self._network.least)
        ]
        sums = np.zeros((len(batch), self.dim))
        counts = np.zeros(len(batch))
        for group in _groups(pieces, padded=self._network.masks_padding):
            waveforms = [waveform for _, waveform in group]
            frames, lengths = self._forward(waveforms)
            for (row, _), vectors, length in zip(group, frames, lengths, strict=True):
                sums[row] += vectors[:length].double().sum(dim=0).cpu().numpy()
                counts[row] += length
        out: FloatArray = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        return out

    def _forward(self, waveforms: Sequence[Waveform]) -> tuple[Tensor, list[int]]:
        """Returns frames ``(batch, time, dim)`` and how many of each waveform are true."""
        assert self._network is not None  # encode
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        padded = nn.utils.rnn.pad_sequence(
            [torch.from_numpy(np.ascontiguousarray(w)) for w in waveforms], batch_first=True
        )
        return self._network(padded.to(self._device), lengths.to(self._device))


def _windows(waveform: Waveform, window: int, least: int) -> Iterator[Waveform]:
    """Cuts a sound; what is too short for one frame is left out, or padded if it is all."""
    if len(waveform) < least:
        yield np.pad(waveform, (0, least - len(waveform)))
        return
    for start in range(0, len(waveform), window):
        piece = waveform[start : start + window]
        if len(piece) >= least:
            yield piece


def _groups(
    pieces: Sequence[tuple[int, Waveform]], *, padded: bool
) -> Iterator[list[tuple[int, Waveform]]]:
    """Yields windows that share a forward pass: of one length, or of similar ones to be padded."""
    ordered = sorted(pieces, key=lambda piece: -len(piece[1]))
    runs = [ordered] if padded else [list(run) for _, run in groupby(ordered, lambda p: len(p[1]))]
    for run in runs:
        start = 0
        while start < len(run):
            rows = max(1, FORWARD_SAMPLES // len(run[start][1]))
            yield run[start : start + rows]
            start += rows
