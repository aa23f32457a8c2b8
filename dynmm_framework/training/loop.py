"""One training loop for every component that learns by gradients.

The loop's randomness derives from the stage's seed and the number of the epoch alone, so a
training that was killed and resumed ends with the same weights as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import ArtifactError, LegFinishedError, StageError
from dynmm_framework.protocols import Context, Leg, Scores, Validator
from dynmm_framework.training.checkpoint import Arrays, CheckpointFolder, Progress, training_digest
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.guard import (
    Guard,
    is_out_of_memory,
    refuse_out_of_memory,
    scale_to_norm,
)
from dynmm_framework.training.memory import keep_freed_memory
from dynmm_framework.training.parallel import average, same_epoch, share, synchronise, terms_of
from dynmm_framework.training.seeding import seed_torch, seeded
from dynmm_framework.training.state import load_module_state, module_state, to_array

NOTE_SECONDS = 0.2
"""Least time between updates of the progress bar's note."""
MAIN = "train"
"""The training that a schedule of settings, and a context's leg, are about."""


class Task(Protocol):
    """What is to be learned.

    A task may have a further attribute ``n_targets``, the number of training targets in one
    epoch; the progress bar then shows targets a second instead of batches a second.

    Two more matter where several workers train together, each on a part of every batch:
    ``n_terms(batch)``, the number of terms that the loss is the mean of (without it, every part
    counts the same), and ``reduction = "sum"`` if the loss is a sum rather than a mean.

    ``divided(batch)`` divides a batch that is too large for one pass: pairs of a part and its
    share of the loss, whose gradients add up to those of one step. Where it has ``pass_size``, the
    rows of one pass, and memory runs out, the loop halves that, once, and takes the step again.

    Attributes:
        module: The module whose parameters are learned; the loop moves it to the device.
        n_batches: Number of batches in one epoch.
    """

    @property
    def module(self) -> nn.Module: ...
    @property
    def n_batches(self) -> int: ...

    def batches(self, rng: np.random.Generator) -> Iterable[Any]:
        """Yields the batches of one epoch; all randomness of the data comes from ``rng``."""
        ...

    def loss(self, batch: Any) -> torch.Tensor:
        """Returns the scalar loss of one batch, the module in training mode."""
        ...

    def score(self, histories: Histories) -> Scores:
        """Scores all items, ``(len(histories), n_items)``, the module in evaluation mode."""
        ...


@dataclass(frozen=True)
class TrainingLog:
    """How a training went.

    Attributes:
        epochs: One record an epoch: ``epoch`` (from 1), ``loss``, ``seconds``, and the validation
            metrics where it was validated.
        best_epoch: The epoch whose weights the module has now; the last one without validation.
        stopped: ``epochs`` if all were trained, ``patience`` if validation stopped it early.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    stopped: str


def default_optimizer(module: nn.Module, config: LoopConfig, **options: Any) -> torch.optim.AdamW:
    """Returns AdamW with the configuration's learning rate and weight decay.

    Args:
        module: Module whose trainable parameters are updated.
        config: Source of ``learning_rate`` and ``weight_decay``.
        **options: Further options of AdamW, such as ``betas``.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
        **options,
    )


def train(
    task: Task,
    config: LoopConfig,
    ctx: Context,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    name: str = MAIN,
    validator: Validator | None = None,
    validate: bool = True,
    record: str = "training",
) -> TrainingLog:
    """Trains ``task.module`` in place and leaves it in evaluation mode with its best weights.

    With a validator, training stops after ``config.patience`` validations without improvement
    and the weights of the best validation are restored; ties keep the earlier. Without one, all
    epochs are trained and the last weights stay. Interrupted trainings resume from
    ``ctx.workdir`` if settings and initial weights are the same; the checkpoint is removed at
    the end. Where the context asks for a leg of the training, the leg goes on from whatever the
    leg before it has left there.

    Args:
        task: Module, batches, loss and scores.
        config: Settings of the loop; the whole model's configuration may be given, then all of
            it must agree before a checkpoint is resumed.
        ctx: Seed, device, precision, validator and scratch folder of the stage.
        optimizer: Updates the parameters; :func:`default_optimizer` if ``None``.
        name: Tells several trainings of one stage apart.
        validator: What early stopping follows; the context's if ``None``.
        validate: Whether to validate, if there is a validator; pre-training is not judged by it.
        record: Name under which the stage keeps the learning curve.

    Raises:
        StageError: If a loss or a gradient is NaN or infinite, or memory runs out; names stage,
            epoch and batch. If a leg's model does not fit the weights of the leg before.
        LegFinishedError: After the last epoch of a leg, if that is not the last of the training.
        ArtifactError: If a checkpoint cannot be written.
    """
    if ctx.device == "cpu":
        keep_freed_memory()
    task.module.to(ctx.device)
    return _Training(
        task,
        config,
        ctx,
        optimizer or default_optimizer(task.module, config),
        name,
        (validator or ctx.validator) if validate else None,
        record,
    ).run()


@dataclass
class _Training:
    task: Task
    config: LoopConfig
    ctx: Context
    optimizer: torch.optim.Optimizer
    name: str
    validator: Validator | None
    record: str
    progress: Progress = field(default_factory=Progress)
    best: Arrays = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workers = self.ctx.workers
        self.leg: Leg = (self.ctx.leg if self.name == MAIN else None) or Leg()
        self.n_steps = -(-self.task.n_batches // self.workers.size)
        self.parameters = dict(self.task.module.named_parameters())
        self.halved = False
        self.averages: dict[str, torch.Tensor] = {}
        if self.config.average:
            self.averages = {
                name: parameter.detach().clone() for name, parameter in self.parameters.items()
            }

    def run(self) -> TrainingLog:
        settings = {
            "config": self.config.model_dump(mode="json"),
            "optimizer": type(self.optimizer).__name__,
            "stage": self.ctx.stage,
            "seed": self.ctx.seed,
            "precision": self.ctx.precision,
            "n_batches": self.task.n_batches,
            "workers": self.workers.size,
            "monitor": self.validator.metric if self.validator else "",
        }
        checkpoint = self.checkpoint = CheckpointFolder(
            self.ctx.workdir / "checkpoints" / self.name,
            digest=training_digest(self.task.module, settings),
        )
        if self.workers.size > 1:
            synchronise(self.task.module)
        restored = self._restored()
        if restored is not None:
            self.progress, kept = restored
            self.best = kept.get("best", {})
            for name, value in kept.get("average", {}).items():
                self.averages[name].copy_(torch.from_numpy(value))
            self.ctx.log(f"resumed after epoch {self.progress.epoch}")
        self._refuse_missing_legs()
        if self.workers.size > 1:
            same_epoch(self.progress.epoch, self.workers, self.ctx.stage)
        saved_at, found = time.monotonic(), self.progress.epoch
        with (
            seeded(self.ctx, self.name),
            self.ctx.progress(self.ctx.stage, total=self.config.epochs) as advance,
        ):
            advance(self.progress.epoch)
            while not self._stopped():
                if self.leg.until is not None and self.progress.epoch >= self.leg.until:
                    if self.progress.epoch > found:
                        self._save()
                    raise LegFinishedError(f"{self.ctx.stage}: {self.progress.epoch} epochs done")
                self._epoch(advance)
                due = self.progress.epoch % self.config.checkpoint_every == 0
                if due and time.monotonic() - saved_at >= self.config.checkpoint_seconds:
                    if self.workers.rank == 0:
                        self._save()
                    saved_at = time.monotonic()
        stopped = self._stopped()
        if self.best:
            load_module_state(self.task.module, self.best)
        elif self.averages:
            self._swap_averages()
        self.task.module.eval()
        self.optimizer.zero_grad(set_to_none=True)
        if self.workers.rank == 0:
            checkpoint.delete()
        log = TrainingLog(
            epochs=self.progress.history,
            best_epoch=self.progress.best_epoch or self.progress.epoch,
            stopped=stopped,
        )
        self.ctx.record(self.record, asdict(log))
        return log

    def _restored(self) -> tuple[Progress, dict[str, Arrays]] | None:
        follows = self.ctx.leg is not None and self.name == MAIN
        try:
            return self.checkpoint.load(self.task.module, self.optimizer, any_settings=follows)
        except (ArtifactError, RuntimeError, ValueError) as error:
            if not follows:
                raise
            raise StageError(
                f"stage {self.ctx.stage}: settings that change after {self.leg.since} epochs change"
                f" the model's shape: {error}",
                hint="What decides the shape cannot change while a model is trained.",
            ) from error

    def _refuse_missing_legs(self) -> None:
        if self.progress.epoch < self.leg.since:
            self.checkpoint.delete()
            raise StageError(
                f"stage {self.ctx.stage}: the checkpoint of the first {self.leg.since} epochs is"
                " gone or damaged",
                hint="Run the same command again; it trains them again.",
            )

    def _save(self) -> None:
        average = {name: to_array(tensor) for name, tensor in self.averages.items()}
        kept = {"best": self.best, "average": average}
        self.checkpoint.save(self.progress, self.task.module, self.optimizer, kept)

    def _stopped(self) -> str:
        if self.progress.epoch >= self.config.epochs:
            return "epochs"
        if 0 < self.config.patience <= self.progress.waited:
            return "patience"
        return ""

    def _epoch(self, advance: Callable[..., None]) -> None:
        epoch = self.progress.epoch + 1
        started = time.monotonic()
        label = f"{self.name}/epoch-{epoch}"
        # Dropout of one worker's part of a batch is not that of another's.
        own = f"{label}/worker-{self.workers.rank}" if self.workers.rank else label
        seed_torch(self.ctx, own)
        self.task.module.train()
        loss = self._pass(epoch, self.ctx.rng(label), advance)
        record = {"epoch": float(epoch), "loss": loss, "seconds": time.monotonic() - started}
        if epoch % self.config.validate_every == 0 or epoch == self.config.epochs:
            record |= self._validate(epoch)
        self.progress.epoch = epoch
        self.progress.history.append(record)
        advance(1, note=self._note(loss, self.n_steps / record["seconds"]))
        if self.leg.keep:
            self._save()
        self.ctx.epoch_finished(
            epoch, {key: value for key, value in record.items() if key != "epoch"}
        )

    def _pass(self, epoch: int, rng: np.random.Generator, advance: Callable[..., None]) -> float:
        """Trains one epoch and returns its mean loss."""
        guard = Guard(self.ctx, epoch)
        clock = noted = time.monotonic()
        batches = self.task.batches(rng)
        if self.workers.size > 1:
            batches = share(batches, self.workers)
        for number, batch in enumerate(batches, start=1):
            try:
                self._step(batch, guard)
            except (RuntimeError, MemoryError) as error:
                refuse_out_of_memory(error, guard.place(number), halved=self.halved)
                raise
            now = time.monotonic()
            if now - noted >= NOTE_SECONDS:
                noted = now
                advance(0, note=self._note(guard.last, number / (now - clock)))
        return guard.mean()

    def _gradients(self, batch: Any) -> torch.Tensor:
        """Passes a batch forwards and backwards, in parts if the task divides it; its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        divided = getattr(self.task, "divided", None)
        parts = [(batch, 1.0)] if divided is None or batch is None else divided(batch)
        loss = torch.zeros((), device=self.ctx.device)
        for part, portion in parts:
            if part is None:  # this worker has no part of the epoch's last batch
                break
            with torch.autocast(
                torch.device(self.ctx.device).type,
                torch.bfloat16,
                enabled=self.ctx.precision == "bf16",
            ):
                value = self.task.loss(part)
            if len(parts) > 1:
                value = value * portion
            value.backward()  # type: ignore[no-untyped-call]
            loss = value.detach() if len(parts) == 1 else loss + value.detach()
        return loss

    def _fitting_gradients(self, batch: Any) -> torch.Tensor:
        """The same; where memory runs out, once in smaller passes, if the task has them."""
        try:
            return self._gradients(batch)
        except (RuntimeError, MemoryError) as error:
            size = getattr(self.task, "pass_size", 1)
            if self.halved or size < 2 or self.workers.size > 1 or not is_out_of_memory(error):
                raise
        # Out of the handler, whose traceback would keep the failed pass's tensors.
        self.halved = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.ctx.log(f"out of memory with passes of {size}; going on with passes of {size // 2}")
        setattr(self.task, "pass_size", size // 2)  # noqa: B010  # not every task has it
        return self._gradients(batch)

    def _step(self, batch: Any, guard: Guard) -> None:
        loss = self._fitting_gradients(batch)
        if self.workers.size > 1:
            learned = [p for group in self.optimizer.param_groups for p in group["params"]]
            mean = getattr(self.task, "reduction", "mean") == "mean"
            loss = average(loss, learned, terms=terms_of(self.task, batch), mean=mean)
        gradients = [
            parameter.grad
            for group in self.optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = nn.utils.get_total_norm(gradients)
        guard.add(loss.detach(), norm)
        if self.config.clip_norm:
            scale_to_norm(gradients, norm, self.config.clip_norm)
        self.optimizer.step()
        self.progress.steps += 1
        if self.averages:
            steps = self.progress.steps
            decay = min(self.config.average, (1 + steps) / (10 + steps))
            torch._foreach_lerp_(
                list(self.averages.values()),
                [parameter.detach() for parameter in self.parameters.values()],
                1 - decay,
            )

    def _swap_averages(self) -> None:
        """Exchanges the module's weights and their averages."""
        for name, parameter in self.parameters.items():
            if name in self.averages:
                parameter.data, self.averages[name] = self.averages[name], parameter.data

    def _validate(self, epoch: int) -> dict[str, float]:
        validator = self.validator
        if validator is None:
            return {}
        self.task.module.eval()
        self._swap_averages()
        with torch.inference_mode():
            metrics = {key: float(value) for key, value in validator(self.task.score).items()}
        weights = module_state(self.task.module)
        self._swap_averages()
        value = metrics[validator.metric]
        sign = 1 if validator.higher_is_better else -1
        improved = math.isfinite(value) and (
            self.progress.best_epoch == 0 or sign * value > sign * self.progress.best_value
        )
        if improved:
            self.progress.best_epoch, self.progress.best_value = epoch, value
            self.progress.waited = 0
            self.best = weights
        else:
            self.progress.waited += 1
        # A metric may be undefined on these users; JSON has no word for it.
        return {key: value for key, value in metrics.items() if math.isfinite(value)}

    def _note(self, loss: float, batches_per_second: float) -> str:
        targets = getattr(self.task, "n_targets", 0)
        per_batch, unit = (targets / self.n_steps, "targets") if targets else (1, "batches")
        note = f"loss {loss:.4f} {batches_per_second * per_batch:,.0f} {unit}/s"
        if self.validator is not None and self.progress.best_epoch:
            metric = self.validator.metric
            note += f" {metric} {self.progress.best_value:.4f} (epoch {self.progress.best_epoch})"
        return note
