"""Weights that stay near what was learned: averages that serve, and penalties that hold on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dynmm_framework.protocols import State
from dynmm_framework.training.state import to_array


class Average:
    """Exponential moving average of a module's parameters; the average serves.

    The decay after ``k`` updates is min(``decay``, (1 + k) / (10 + k)), so that the first updates
    are not held back by weights that knew nothing.

    Args:
        module: The module that trains.
        decay: Largest decay; 0 serves the trained weights themselves.
        warm_up: Whether to begin with smaller decays.
    """

    def __init__(self, module: nn.Module, *, decay: float, warm_up: bool = True) -> None:
        self.decay, self.warm_up, self.updates = decay, warm_up, 0
        self._module = module
        self._means = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the present weights."""
        decay = self.decay
        if self.warm_up:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._means, list(self._module.parameters()), 1 - decay)
        self.updates += 1

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Puts the average into the module for the duration of the block."""
        parameters = list(self._module.parameters())
        trained = [p.data for p in parameters]
        try:
            for parameter, mean in zip(parameters, self._means, strict=True):
                parameter.data = mean
            yield
        finally:
            for parameter, data in zip(parameters, trained, strict=True):
                parameter.data = data

    def get_state(self) -> State:
        state = {f"{n}": to_array(mean) for n, mean in enumerate(self._means)}
        return {**state, "updates": np.asarray(self.updates, np.int64)}

    def load_state(self, state: State) -> None:
        self.updates = int(state["updates"])
        for n, mean in enumerate(self._means):
            mean.copy_(torch.from_numpy(np.array(state[f"{n}"])))


class Consolidation:
    """Online elastic weight consolidation (Schwarz et al., ICML 2018), diagonal.

    Ω = ½ Σ_k F_k (θ_k − θ*_k)², where F ← γ F + F_new after every window, F_new the squared
    gradients of the ranking loss over it, and θ* the weights at its end.

    Args:
        module: The module that trains.
        gamma: γ, what remains of the importance of a window after the next.
    """

    def __init__(self, module: nn.Module, *, gamma: float) -> None:
        self.gamma = gamma
        self._parameters = list(module.parameters())
        self._fisher = [torch.zeros_like(p) for p in self._parameters]
        self._anchor = [p.detach().clone() for p in self._parameters]

    def penalty(self) -> Tensor:
        """Returns Ω."""
        total = self._parameters[0].new_zeros(())
        for p, fisher, anchor in zip(self._parameters, self._fisher, self._anchor, strict=True):
            total = total + (fisher * (p - anchor).square()).sum()
        return total / 2

    @torch.no_grad()
    def finish(self, gradients: Sequence[Tensor | None]) -> None:
        """Ends a window.

        Args:
            gradients: Of the ranking loss over the window, one for each parameter.
        """
        for fisher, gradient in zip(self._fisher, gradients, strict=True):
            fisher.mul_(self.gamma)
            if gradient is not None:
                fisher.add_(gradient.square())
        for anchor, parameter in zip(self._anchor, self._parameters, strict=True):
            anchor.copy_(parameter)

    def get_state(self) -> State:
        named = {"fisher": self._fisher, "anchor": self._anchor}
        return {
            f"{name}.{n}": to_array(tensor)
            for name, several in named.items()
            for n, tensor in enumerate(several)
        }

    def load_state(self, state: State) -> None:
        for name, several in (("fisher", self._fisher), ("anchor", self._anchor)):
            for n, tensor in enumerate(several):
                tensor.copy_(torch.from_numpy(np.array(state[f"{name}.{n}"])))
