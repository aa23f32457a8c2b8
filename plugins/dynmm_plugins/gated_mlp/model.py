"""The gated MLP as an online adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynmm_framework.errors import StageError
from dynmm_framework.latents.losses import gaussian_shift
from dynmm_framework.online.consolidation import Average, Consolidation
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state, to_array
from dynmm_plugins.gated_mlp.config import GatedMLPConfig
from dynmm_plugins.gated_mlp.network import Network, RankingLoss, shifted

if TYPE_CHECKING:
    from dynmm_framework.online.lesson import Lesson, People, Summary
    from dynmm_framework.protocols import Context, FloatArray, State


class GatedMLP:
    """Dynamic adapter (DynMM, equations 1 to 3): z = z_base + σ(wᵀq) · has · g(q).

    For items q is the frozen latent beside the summary of recent windows, and ``has`` says whether
    there was an event in them; for users it is the frozen latent beside log1p of the length of the
    history and the mean vector of its last 20 items. The last layer is initialised to zero, so an
    untrained adapter changes nothing, and of an item without a recent event nothing ever changes.

    Learned by cross-entropy over the catalogue, known items masked, on the newest window and on
    past windows with the summaries that were their own; held back by the divergence from the
    frozen latents and, where asked for, by elastic weight consolidation and reconstruction. The
    moving average of the weights serves.

    Differences from the paper in the default: 64 inner units, items of the last 24 windows rather
    than of one, summaries of *earlier* windows (those of the same one hold the targets), users by
    their history, priors outside of the loss. ``preset: paper`` is as printed, but for the
    summaries' window.

    A step costs O(events · items · d) for the ranking loss and O((items + events) · width · hidden)
    for the corrections; serving costs one small MLP an active item and one a user.

    Args:
        config: Settings.
    """

    def __init__(self, config: GatedMLPConfig) -> None:
        self.config = config
        self._network: Network | None = None
        self._pending: Mapping[str, Any] = {}

    def begin(self, items: FloatArray, ctx: Context) -> None:
        """Puts the adapter, new or restored, on frozen items.

        Args:
            items: Latents of all items, ``(n_items, d)``.
            ctx: Seed and device.
        """
        config, dim = self.config, items.shape[1]
        self._seed = ctx.seed
        self._items = torch.from_numpy(np.array(items, dtype=np.float32))
        from dynmm_framework.online.summaries import NAMES

        with seeded(ctx, "initialise"):
            self._network = Network(
                dim,
                len(NAMES) + dim,
                hidden=config.hidden,
                gate=config.gate,
                users=config.users,
                share=config.share,
                decoder=config.reconstruction_weight > 0,
            )
        self._parameters = list(self._network.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            foreach=True,
        )
        self._average = Average(self._network, decay=config.average, warm_up=config.average_warm_up)
        self._consolidation = Consolidation(self._network, gamma=config.gamma)
        self._steps = 0
        if self._pending:
            self._restore(self._pending)
            self._pending = {}

    def correct_items(self, summary: Summary) -> FloatArray:
        """Returns served latents of all items, ``(n_items, d)``."""
        network = self._begun()
        with torch.no_grad(), self._average.serving():
            rows, served = self._rows(network, summary)
            table = self._items.clone()
            table[rows] = served
        return table.numpy()

    def correct_users(self, people: People) -> FloatArray:
        """Returns served latents of users, ``(n, d)``."""
        network = self._begun()
        with torch.no_grad(), self._average.serving():
            return self._users(network, people).numpy()

    def user_correction(self) -> Callable[[People], FloatArray]:
        """Returns a function that corrects users as of now, whatever is learned afterwards."""
        network = self._begun()
        with self._average.serving():
            served = copy.deepcopy(network)

        def correct(people: People) -> FloatArray:
            with torch.no_grad():
                return self._users(served, people).numpy()

        return correct

    def step(
        self, lesson: Lesson, replayed: Sequence[Lesson], *, rate: float = 1.0
    ) -> Mapping[str, float]:
        """Takes one step on a window and on past ones.

        Args:
            lesson: The newest window, or a part of it.
            replayed: Past windows.
            rate: Factor on the learning rate.

        Returns:
            The losses, unweighted.

        Raises:
            StageError: If the loss is not finite.
        """
        network, config = self._begun(), self.config
        lessons = [part for part in (lesson, *replayed) if len(part)]
        total = sum(map(len, lessons))
        if not total:
            return {}
        self._optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        objective = self._items.new_zeros(())
        for part in lessons:
            losses = self._losses(network, part)
            share = len(part) / total
            for name, (weight, loss) in losses.items():
                objective = objective + share * weight * loss
                sums[name] = sums.get(name, 0.0) + share * loss.item()
        if config.consolidation_weight:
            penalty = self._consolidation.penalty()
            objective = objective + config.consolidation_weight * penalty
            sums["consolidation"] = penalty.item()
        if not torch.isfinite(objective):
            raise StageError(
                f"the online adapter's loss is {objective.item()} in step {self._steps + 1}",
                hint="Lower online.config.learning_rate.",
            )
        if objective.requires_grad:
            objective.backward()  # type: ignore[no-untyped-call]
            for group in self._optimizer.param_groups:
                group["lr"] = config.learning_rate * rate
            self._optimizer.step()
            self._average.update()
        self._steps += 1
        return sums

    def finish(self, lesson: Lesson) -> None:
        """Ends a window: what it taught becomes what consolidation holds on to."""
        if not self.config.consolidation_weight or not len(lesson):
            return
        network = self._begun()
        _, loss = self._losses(network, lesson, rank_only=True)["rank"]
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            self._consolidation.finish(gradients)

    def get_state(self) -> State:
        """Returns weights, their average, the optimiser's moments and the consolidation's."""
        if self._network is None:
            return dict(self._pending)
        state = {f"network.{k}": v for k, v in module_state(self._network).items()}
        state |= {f"average.{k}": v for k, v in self._average.get_state().items()}
        state |= {f"consolidation.{k}": v for k, v in self._consolidation.get_state().items()}
        for number, parameter in enumerate(self._parameters):
            for key, value in self._optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{number}.{key}"] = to_array(value)
        state["steps"] = np.asarray(self._steps, np.int64)
        return state

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned; now, or when the adapter begins."""
        if self._network is None:
            self._pending = dict(state)
        elif state:
            self._restore(state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        network = self._begun()
        load_module_state(network, _below(state, "network"))
        self._average.load_state(_below(state, "average"))
        self._consolidation.load_state(_below(state, "consolidation"))
        for number, parameter in enumerate(self._parameters):
            moments = _below(state, f"optimizer.{number}")
            if moments:
                self._optimizer.state[parameter] = {
                    key: torch.from_numpy(np.array(value)) for key, value in moments.items()
                }
        self._steps = int(state["steps"])

    def _losses(
        self, network: Network, lesson: Lesson, *, rank_only: bool = False
    ) -> dict[str, tuple[float, Tensor]]:
        """Returns each loss with its weight."""
        config = self.config
        rows, corrected = self._rows(network, lesson.summary)
        users = self._users(network, lesson.people)
        losses: dict[str, tuple[float, Tensor]] = {}
        if config.rank_weight or rank_only:
            rank = self._rank_loss(rows, corrected, users, lesson)
            losses["rank"] = (config.rank_weight, rank)
        if rank_only:
            return losses
        if config.shift_weight:
            frozen = torch.from_numpy(lesson.people.vectors)
            shift = gaussian_shift(users, frozen, sigma=config.sigma)
            if len(rows):
                base = self._items[rows]
                shift = shift + gaussian_shift(corrected, base, sigma=config.sigma)
            losses["shift"] = (config.shift_weight, shift)
        if network.decoder is not None and len(rows):
            rebuilt = F.mse_loss(network.decoder(corrected), self._items[rows])
            losses["reconstruction"] = (config.reconstruction_weight, rebuilt)
        return losses

    def _rank_loss(self, rows: Tensor, corrected: Tensor, users: Tensor, lesson: Lesson) -> Tensor:
        targets = torch.from_numpy(lesson.targets.astype(np.int64))
        masked = torch.from_numpy(lesson.masked)
        chosen = self._compared(lesson.targets)
        n = len(self._items)
        table = self._items.index_copy(0, rows, corrected) if len(rows) else self._items
        if chosen is not None:
            column = torch.full((n,), -1)
            column[chosen] = torch.arange(len(chosen))
            owners, items = masked // n, column[masked % n]
            masked = (owners * len(chosen) + items)[items >= 0]
            table, targets = table[chosen], column[targets]
        loss: Tensor = RankingLoss.apply(users, table, targets, masked)  # type: ignore[no-untyped-call]
        return loss

    def _compared(self, targets: Any) -> Tensor | None:
        """Returns the items of the ranking loss; ``None`` for the whole catalogue."""
        n = len(self._items)
        if n <= self.config.catalogue:
            return None
        rng = np.random.default_rng([self._seed, self._steps])
        drawn = rng.integers(0, n, self.config.catalogue)
        return torch.from_numpy(np.union1d(drawn, targets).astype(np.int64))

    def _rows(self, network: Network, summary: Summary) -> tuple[Tensor, Tensor]:
        """Returns the items with a recent event, ``(active,)``, and their corrected latents."""
        rows = torch.from_numpy(summary.items.astype(np.int64))
        base = self._items[rows]
        query = torch.cat([base, torch.from_numpy(summary.features)], dim=1)
        return rows, shifted(base, network.items(query))

    def _users(self, network: Network, people: People) -> Tensor:
        base = torch.from_numpy(people.vectors)
        if network.users is None:
            return base
        query = torch.cat([base, torch.from_numpy(people.profiles)], dim=1)
        seen = torch.from_numpy(people.seen)[:, None]
        return shifted(base, network.users(query) * seen)

    def _begun(self) -> Network:
        if self._network is None:
            raise StageError("GatedMLP stands on nothing yet", hint="Call begin first.")
        return self._network


def _below(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
