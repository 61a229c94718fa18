"""What a worker does, in whatever process: take the stages of a run by lease until none is left, and name every bad end.

Workers of the local executor share all cells of a run; an array task of SLURM has its own piece. A stage that somebody else
holds is passed over as long as there is another one to do; the first worker that needs a poison makes it.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.failures import FAILURE_RULES
from unlearnable_bench.benchmark.runs import Run
from unlearnable_bench.benchmark.snapshot import Snapshot
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.poisons.lease import BusyError, Lease
from unlearnable_bench.poisons.recipe import PoisonRecipe, Recipe
from unlearnable_bench.registry import NotApplicable, outdated

if TYPE_CHECKING:
    from unlearnable_bench.benchmark.train import TrainingProgress
    from unlearnable_bench.poisons.store import Store
    from unlearnable_bench.results import Record

Event = dict[str, Any]
Emit = Callable[[Event], None]

# how CUDA and its libraries say that the memory of the GPU is full, where torch's own allocator was not asked
GPU_FULL = ("CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
# errors after which a process can compute nothing more on the GPU; torch.AcceleratorError is most of them
GPU_LOST = ("CUDA error", "Triton Error [CUDA]", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR")
INLINE = "inline"  # the name of a worker that is the process of the driver, or of a notebook
PAUSE = (0.2, 5.0)  # seconds between looks at stages that others hold: at first, and at most
EMITTED = 0.5  # seconds between two events of progress, at least
WRITTEN = 3.0  # seconds between two writings of progress, at least: the workspace may lie on a network
LOGGED = 60.0  # seconds between two lines of progress in a log


class AbandonedError(BaseException):
    """The run is to stop; what is finished stays, the rest is left to the next run."""


class LostDeviceError(BaseException):
    """The GPU reported an error. Whatever this process asks of it from now on fails too."""


class TimeLimitError(BaseException):
    """The time limit of this job is about to end it."""


class Meter:
    """Makes events of the progress of one piece of work: twice a second at most, with the seconds that are left."""

    def __init__(self, doing: Event, emit: Emit) -> None:
        self.doing, self.emit = doing, emit
        self.total, self.first, self.done = 0, 0, 0  # steps; `first` were done when this process reported first
        self.began = self.last = 0.0
        self.phase = (False, False)

    def __call__(self, done: int, total: int, **figures: float | None) -> None:
        """Take the steps that are done of all, and whatever else is known by name."""
        now = time.monotonic()
        if total != self.total or done < self.done:  # other work: a parent's poison, then the poison itself
            self.total, self.first, self.began = total, done, now
        self.done = done
        phase = (done == total, figures.get("judged") is not None)
        if now - self.last <= EMITTED and phase == self.phase:
            return
        self.last, self.phase = now, phase
        self.emit(self.doing | {"event": "progress", "done": done, "total": total, "seconds_left": self._left(now)} | figures)

    def _left(self, now: float) -> float | None:
        """Estimate from the steps of this process: those of an earlier one took no time here. None after a single report."""
        steps = self.done - self.first
        return (self.total - self.done) * (now - self.began) / steps if steps else None


def work(run: Run, tasks: Sequence[Task], stage: str, emit: Emit, device: str, alive: Callable[[], bool], *, name: str) -> None:
    """Take stages of some cells until none is left, cell by cell: crafting, purifying, training; or only crafting.

    `name` is that of this process among those of the run. AbandonedError if `alive` says no; a TimeLimitError of the process
    becomes the failure of the cell it was busy with.
    LostDeviceError when the failure of a cell is written down, but the process is of no use to the next.
    """
    from unlearnable_bench.benchmark import cell

    worker = _Worker(run, emit, alive, name)
    worker.store = cell.open_store(Path(run.content["poisons"]), device, worker.progress)
    pause, modules = PAUSE[0], 0
    try:
        while True:
            tasks = [task for task in tasks if not run.settled(task)]
            if stage == "craft":
                tasks = [task for task in tasks if not worker.store.has(task.poison)]
            if not tasks:
                return
            if not alive():
                raise AbandonedError
            if worker.one_stage(tasks, stage):
                pause = PAUSE[0]
                cell.release(device)
                if name != INLINE and len(sys.modules) > modules:
                    modules = len(sys.modules)
                    gc.freeze()  # they live as long as this process; to look at them again takes longer than a small cell
            else:
                time.sleep(pause)
                pause = min(1.5 * pause, PAUSE[1])
    except TimeLimitError as error:
        for task in tasks:
            if task.cell.id == worker.doing.get("cell"):
                run.fail(task, "time-limit", f"{worker.doing['stage']}: {error}", settle=False)
        raise


class _Worker:
    store: Store
    meter: Meter  # of what is done now, with the lease that it is done under
    lease: Path
    written: float  # when progress was written last

    def __init__(self, run: Run, emit: Emit, alive: Callable[[], bool], name: str) -> None:
        self.run, self.emit, self.alive, self.name = run, emit, alive, name
        self.doing: Event = {}

    def _begin(self, stage: str, task: Task, label: str, lease: Path) -> None:
        """Say what is done from now on, under which lease."""
        self.doing = {"stage": stage, "cell": task.cell.id, "label": label}
        self.lease, self.written = lease, time.monotonic()
        self.meter = Meter(self.doing, self._pass_on)
        self.emit(self.doing | {"event": "start"})

    def progress(self, done: int, total: int) -> None:
        """Take the progress of crafting, purifying and measuring."""
        self.meter(done, total)

    def training(self, now: TrainingProgress) -> None:
        """Take the progress of a training."""
        self.meter(
            now.step,
            now.steps,
            epoch=min(now.epoch + 1, now.epochs),
            epochs=now.epochs,
            images_per_second=now.images_per_second,
            loss=now.loss,
            accuracy=now.accuracy,
            judged=now.judged,
        )

    def _pass_on(self, event: Event) -> None:
        """Show progress here, and every few seconds to other processes; AbandonedError if the driver is gone."""
        self.emit(event)
        now = time.monotonic()
        if now - self.written >= WRITTEN:
            self.written = now
            self.run.write_progress(self.name, event | {"lease": str(self.lease)})
        if not self.alive():
            raise AbandonedError

    def one_stage(self, tasks: list[Task], stage: str) -> bool:
        """Do the first stage that is ready and that nobody else does, cell by cell in their order; False if there is none."""
        asked: set[str] = set()  # sets that somebody else is making
        for task in tasks:
            missing = self._missing_set(task)
            if missing is None:
                if stage != "craft" and self._train_alone(task):
                    return True
            elif missing.key not in asked:
                asked.add(missing.key)
                if self._make_set(missing, task, tasks):
                    return True
        return False

    def _missing_set(self, task: Task) -> Recipe | None:
        """Return the first set that a cell lacks: its poison, or what its purifiers make of that."""
        if task.needs_poison and not self.store.has(task.poison):
            return task.poison
        if task.purified and not self.store.has(task.purified):
            return task.purified
        return None

    def _make_set(self, recipe: Recipe, task: Task, tasks: list[Task]) -> bool:
        from unlearnable_bench.benchmark import cell

        if isinstance(recipe, PoisonRecipe):
            return self._make("craft", recipe, cell.craft_poison, task, tasks)
        return self._make("purify", recipe, cell.purify_set, task, tasks)

    def _train_alone(self, task: Task) -> bool:
        """Train a cell unless somebody else does or did."""
        with self.run.lease(task) as lease:
            if lease is None or self._finished_elsewhere(task):
                return False
            self._train(task, lease)
            return True

    def _finished_elsewhere(self, task: Task) -> bool:
        if self.run.settled(task):
            return True
        if not self.run.content["force"] and self.run.records.path(task.cell.id).exists():
            record = self.run.records.read(task.cell.id)
            if record is not None and not outdated(record.versions, record.cell.parts):
                self.run.settle(task)
                return True
        return False

    def _make(self, stage: str, recipe: Recipe, make: Callable[..., Any], task: Task, tasks: list[Task]) -> bool:
        self._begin(stage, task, recipe.text, self.store.lease_path(recipe))
        start = time.perf_counter()
        try:
            made = make(task, self.store, False)
        except BusyError:
            self._idle()
            return False
        except Exception as error:
            for other in self.run.tasks if self.run.detached else tasks:
                if _shares(stage, other, task):
                    self._failed(other, error, f"{stage} {recipe.text}: ")
            _leave_lost_device(error)
            return True
        self.emit(self.doing | {"event": "made", "seconds": time.perf_counter() - start, "path": str(made.path)})
        self.doing = {}
        return True

    def _idle(self) -> None:
        self.emit(self.doing | {"event": "idle"})
        self.doing = {}

    def _train(self, task: Task, lease: Lease) -> None:
        from unlearnable_bench.benchmark import cell

        self._begin("train" if task.trains else "measure", task, task.cell.label, lease.path)
        start = time.perf_counter()
        try:
            record = cell.run_cell(task, self.store, self.training, Path(self.run.content["checkpoints"]))
            lease.check()
        except BusyError:  # somebody took the cell over while this process was frozen
            return self._idle()
        except Exception as error:
            self._failed(task, error)
            _leave_lost_device(error)
            return
        written = self._write(task, record)
        lease.finish()
        if not written:
            return self._idle()
        seconds = time.perf_counter() - start
        self.emit(self.doing | {"event": "done", "seconds": seconds} | record.outcome)
        self.doing = {}

    def _write(self, task: Task, record: Record) -> bool:
        """Write the record of a cell; False if another process has written one meanwhile, which then counts."""
        written = self.run.records.write(record, replace=task.cell.id in self.run.redo)
        self.run.settle(task)
        return written

    def _failed(self, task: Task, error: Exception, prefix: str = "") -> None:
        """The edge of a cell: whatever went wrong becomes a failure with a kind and a log, or not applicable."""
        self.doing = {}
        if isinstance(error, NotApplicable):
            record = provenance.not_applicable(task, str(error))
            self._write(task, record)
            self.emit({"event": "done", "cell": task.cell.id, "label": task.cell.label, "reason": str(error)})
            return
        kind = failure_kind(error)
        log = self.run.folder / f"{task.cell.id}.log"
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        message = prefix + (str(error).strip().splitlines() or [type(error).__name__])[0]
        if kind in ("out-of-memory", "gpu-memory"):
            message += "; use fewer --workers, a smaller batch or a smaller network"
        if kind == "gpu-error":
            message += "; with CUDA_LAUNCH_BLOCKING=1 the log names the line that caused it"
        if kind == "plug-in":
            message = f"{prefix}{type(error).__name__}: {str(error).strip()}"[:500]
        self.run.fail(task, kind, message, str(log))
        self.emit({"event": "failed", "cell": task.cell.id, "label": task.cell.label, "kind": kind, "message": message})


def _leave_lost_device(error: Exception) -> None:
    """Raise LostDeviceError if nothing can be computed on the GPU any more."""
    from unlearnable_bench.poisons.store import first_line

    if failure_kind(error) == "gpu-error":
        raise LostDeviceError(f"the GPU reported an error: {first_line(error)}") from error


def _shares(stage: str, one: Task, other: Task) -> bool:
    """Whether two cells need the same poison, or the same purified set."""
    if stage == "craft":
        return one.needs_poison and one.poison.key == other.poison.key
    return one.purified is not None and other.purified is not None and one.purified.key == other.purified.key


FROM_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


def failure_kind(error: Exception) -> str:
    """Name the end of a cell: out-of-memory, gpu-memory, gpu-error, disk, diverged, budget, or plug-in for all else."""
    import torch

    from unlearnable_bench.benchmark.train import DivergedError
    from unlearnable_bench.poisons.store import BudgetError

    if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in GPU_FULL):
        return "gpu-memory"
    if isinstance(error, torch.AcceleratorError) or any(words in str(error) for words in GPU_LOST):
        return "gpu-error"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return "out-of-memory"
    if _is_of_the_disk(error):
        return "disk"
    if isinstance(error, DivergedError):
        return "diverged"
    return "budget" if isinstance(error, BudgetError) else "plug-in"


def _is_of_the_disk(error: Exception) -> bool:
    """Whether something could not be written; numpy and torch say so in words alone."""
    if isinstance(error, OSError):
        return error.errno in FROM_THE_DISK or " requested and " in str(error)
    return isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error)


# An array task of SLURM


def array_task(folder: str, number: int) -> str:
    """Work on one piece of a run; the only things that SLURM's job is told are these two. Returns how it ended."""
    run = Run(Path(folder))
    rank = os.environ.get("SLURM_PROCID", "0")
    lease = Lease(run.folder / "parts" / f"{number}.{rank}")
    if not lease.take():
        return _said("an earlier start of this task is still at work")
    # of a start that was killed in its last moment; submitit would refuse to end
    (run.folder / "jobs" / f"{_job_name()}_{rank}_result.pkl.save_tmp").unlink(missing_ok=True)
    try:
        with _signals(run, int(run.content["walltime"][number])):
            piece = run.pieces[number]
            tasks = run.piece_tasks(number)
            device = run.content["device"]
            for kind, sentence in _complaints(run, device):
                for task in tasks:
                    if not run.settled(task):
                        run.fail(task, kind, sentence)
                return _said(f"{kind}: {sentence}")
            work(
                run,
                tasks,
                piece.stage,
                _Log(),
                device,
                lambda: run.goes_on() and not lease.lost(),
                name=f"{number}.{rank}",
            )
            return _said("done")
    except AbandonedError:
        if lease.lost():  # the node was cut off from SLURM, which started the task again on another one
            return _said("a later start of this task has taken over")
        (run.folder / "ended" / str(number)).touch()
        return _said("stopped")
    except (TimeLimitError, LostDeviceError) as error:
        kind = "time-limit" if isinstance(error, TimeLimitError) else "gpu-error"
        if rank == "0" and not _requeued(FAILURE_RULES[kind].attempts):
            (run.folder / "ended" / str(number)).touch()
        return _said(str(error))
    finally:
        lease.release()


def _job_name() -> str:
    """How submitit's files of this array task begin."""
    number, index = os.environ.get("SLURM_ARRAY_JOB_ID", ""), os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return f"{number}_{index}" if number else os.environ.get("SLURM_JOB_ID", "none")


def _complaints(run: Run, device: str) -> list[tuple[str, str]]:
    """What speaks against beginning: (kind, sentence)."""
    if sentence := Snapshot(Path(run.content["code"]), run.content["tree"], run.content["plugins"]).complaint():
        return [("code", sentence)]
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            where = f"{os.uname().nodename} with CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '(unset)')}"
            return [("no-device", f"the job found no GPU on {where}; see `gpus` and `gpu_option` of the profile")]
    return []


@contextmanager
def _signals(run: Run, minutes: int) -> Any:
    """Turn SLURM's signals into ends where they mean one.

    Near the time limit: TimeLimitError. After `bench cancel`: AbandonedError. Else the job is being preempted, and goes on
    until it is killed: SLURM starts a preempted job again only if it did not end by itself.
    """
    end = psutil.Process().create_time() + 60 * minutes  # seconds since 1970; the job began a little earlier
    margin = run.content["signal"] + 90  # SLURM sends its warning up to a minute early

    def handle(number: int, frame: FrameType | None) -> None:
        if run.stopped:
            raise AbandonedError
        if end - time.time() < margin:
            raise TimeLimitError(f"the time limit of {minutes} minutes was reached")
        _said(f"signal {signal.Signals(number).name}: going on until SLURM ends this job")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _requeued(attempts: int) -> bool:
    """Ask SLURM to start this job again, where `scontrol` exists on its machine; `attempts` starts in all."""
    restarts, number = int(os.environ.get("SLURM_RESTART_COUNT", "0")), os.environ.get("SLURM_JOB_ID", "")
    if restarts + 1 >= attempts:
        return False
    try:
        done = subprocess.run(["scontrol", "requeue", number], capture_output=True, timeout=60, check=False)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _said(sentence: str) -> str:
    print(f"{time.strftime('%FT%T')} {sentence}", flush=True)
    return sentence


class _Log:
    """Prints events, those of progress once a minute."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event["event"] == "progress" and now - self.last < LOGGED:
            return
        self.last = now
        _said(json.dumps(event))
