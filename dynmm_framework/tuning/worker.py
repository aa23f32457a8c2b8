"""What runs in a worker's process: trials of Ray Tune, one after another.

Ray Tune asks a trial for its next epoch, while a stage reports epochs as they come. So a trial runs
in a thread of its own, which waits after every epoch until Tune has decided; stopping it there lets
the stage tidy up behind itself.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ray.tune import Trainable

from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.catalogue import describe, load_catalogue
from dynmm_framework.errors import StoppedError
from dynmm_framework.tuning.epochs import Epoch, Report, kind_of
from dynmm_framework.tuning.population import Lineage
from dynmm_framework.tuning.trial import Course, Order, Outcome, Place, run_trial, settle

LINEAGE_FILE = "lineage.json"
WEIGHTS_FOLDER = "checkpoints"
LAPSE_SECONDS = 30.0
"""How long a trial waits to be asked for its next epoch. Ray Tune keeps a worker whose trial it has
stopped for the next one, and until then the trial must not hold what others may wait for."""


class Steps:
    """Work that reports as it goes, turned into something that is asked for the next report.

    Args:
        work: Calls what it is given with every epoch, and returns its outcome.
    """

    def __init__(self, work: Callable[[Report], Outcome]) -> None:
        self._work = work
        self._told: SimpleQueue[Epoch | Outcome] = SimpleQueue()
        self._go = threading.Semaphore(0)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self.over = False

    @property
    def lapsed(self) -> bool:
        """Whether the work was ended because nobody asked for more."""
        return self._ending and not self._thread.is_alive()

    def next(self) -> Epoch | Outcome:
        """Lets the work go on, and returns its next epoch, or in the end its outcome."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        return self._told.get()

    def end(self) -> None:
        """Stops work that waits after an epoch, and waits until it has tidied up."""
        self._ending = True
        if self._thread.is_alive():
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            outcome = self._work(self._report)
        except BaseException as error:  # whatever it is, who asks must not wait for ever
            outcome = {"state": "failed", "reason": describe(error)}
        self.over = not self._ending
        self._told.put(outcome)

    def _report(self, epoch: Epoch) -> None:
        if not self._ending:
            self._told.put(epoch)
            self._ending = not self._go.acquire(timeout=LAPSE_SECONDS) or self._ending
        if self._ending:
            raise StoppedError("stopped after its last epoch")


class TrialWorker(Trainable):
    """A worker of Ray Tune; it serves many trials."""

    _seat: dict[str, Any]
    _lineage: Lineage
    _course: Course
    _epoch: int
    _steps: Steps | None

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], *, template: Order, place: Place
    ) -> None:
        """Reads what trials need, so that the first is not slower."""
        import dynmm_framework.engine.validation
        import dynmm_framework.evaluation.evaluate
        import dynmm_framework.training.loop  # noqa: F401
        from dynmm_framework.engine.context import Surroundings

        self._template, self._place = template, place
        settle(place)
        self._surroundings = Surroundings(
            load_catalogue(), keep_epochs=bool(template["population"])
        )
        assert self._surroundings.registry is not None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes another trial."""
        self._finish()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Returns the trial's next epoch, or in the end what it gave."""
        if self._steps is None or self._steps.lapsed:  # it goes on from the last checkpoint
            self._steps = Steps(self._work)
        found = self._steps.next()
        if "state" in found and not self._steps.over:  # it lapsed at this very moment
            self._steps = None
            return self.step()
        if self._steps.over:
            return {"done": True, "outcome": {**found, "params": self._lineage.params()}}
        epoch: Epoch = found  # type: ignore[assignment]
        result: dict[str, Any] = {"reported": epoch, "stages": self._course.stages}
        if epoch["stage"] == self._course.stage:
            self._epoch = epoch["epoch"]
        if self._counts(epoch):
            result |= {"kind": kind_of(epoch), "epoch": epoch["epoch"], "value": epoch["value"]}
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keeps what a member of a population hands on."""
        folder = Path(checkpoint_dir)
        source = self._course.folder
        if source is not None and source.is_dir():
            shutil.copytree(source, folder / WEIGHTS_FOLDER)
        found = {**self._lineage.as_json(), "epoch": self._epoch}
        write_json(folder / LINEAGE_FILE, found)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Takes over what a member of a population has handed on, to go on with own settings."""
        folder = Path(checkpoint)
        found = read_json(folder / LINEAGE_FILE)
        self._epoch = found["epoch"]
        lineage = Lineage.from_json(found)
        self._lineage = lineage.going_on(self._seat["params"], after=self._epoch)
        if (folder / WEIGHTS_FOLDER).is_dir():
            self._course.take(folder / WEIGHTS_FOLDER, into=Path(self.logdir) / "handed-on")

    def cleanup(self) -> None:
        """Ends the trial."""
        self._finish()

    def _begin(self, config: dict[str, Any]) -> None:
        settle(self._place)  # Tune moves into a folder of its own
        self._seat = config["seat"]
        self._lineage = Lineage(self._seat["params"])
        self._course = Course(self.trial_id if self._template["population"] else "")
        self._epoch = 0
        self._steps = None

    def _finish(self) -> None:
        if self._steps is not None:
            self._steps.end()
            self._steps = None
        if self._template["population"]:
            self._course.discard()

    def _counts(self, epoch: Epoch) -> bool:
        """Tells whether the scheduler may decide after an epoch."""
        last = self._template["population"]
        if not last:
            return bool(kind_of(epoch))
        # After the last epoch nobody would go on with other weights.
        return (
            epoch["stage"] == self._course.stage and epoch["epoch"] < last and bool(kind_of(epoch))
        )

    def _work(self, report: Report) -> Outcome:
        params = self._lineage.params()
        order: Order = {**self._template, "number": self._seat["number"], "params": params}
        return run_trial(order, self._surroundings, report, course=self._course)
