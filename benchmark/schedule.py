"""Executors: each puts the stages of a run onto machines; the only file that imports submitit.

`inline` works in this process, `local` starts long-lived worker processes that share the stages, `slurm` submits arrays and
leaves. Nothing but a run's folder and a number is sent to a worker.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from unlearnable_bench.benchmark import provenance, slurm
from unlearnable_bench.benchmark.plan import Plan
from unlearnable_bench.benchmark.runs import Piece, Run
from unlearnable_bench.benchmark.slurm import Array, Profile, SlurmError
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.benchmark.work import INLINE, AbandonedError, Emit, Event, LostDeviceError, array_task, work
from unlearnable_bench.poisons.recipe import Recipe
from unlearnable_bench.registry import EntryError
from unlearnable_bench.registry._paths import CELLS_PER_GPU, data_root
from unlearnable_bench.results import Records, Workspace

ROUNDS = 3  # how often in a row all workers may end before one of them got through with a cell
SECONDS_TO_STOP = 5.0  # that workers have after an interrupt before they are killed
DEVICE_FOLDER = Path("/dev")
GPU_FILES = ("nvidia[0-9]*", "dxg")  # of Linux where it has a GPU that CUDA may know; `dxg` is that of Windows seen from WSL
WORKER_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",  # a stray registry.py or random.py in the working directory changes nothing
    "PYTHONUNBUFFERED": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",  # keep freed memory: a fifth of the time went into page faults
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "TORCHINDUCTOR_COMPILE_THREADS": "2",  # processes that compile; one per core and worker is the memory of a job
}


class ExecutorError(RuntimeError):
    """Workers that could not even begin; the text says where their logs are."""

    exit_code = 3  # of `bench`: cells failed


# Executors: each runs a plan to its end and passes the events on


def inline(run: Run, workers: int, emit: Emit) -> None:
    """Do everything in this process, one stage after the other."""
    try:
        device = run.content["device"]
        work(run, run.tasks, "train", lambda event: emit(event | {"worker": 0}), device, lambda: not run.stopped, name=INLINE)
    except AbandonedError:
        raise KeyboardInterrupt from None
    except LostDeviceError as error:
        raise ExecutorError(f"{error}; the same command goes on with the other cells, --executor local by itself") from None


def local(run: Run, workers: int, emit: Emit) -> None:
    """Start `workers` long-lived jobs on this machine that share the stages, spread over the GPUs where there are any.

    A worker that was killed costs the cell it was training; the others go on, and what is left is started again. One that lost
    its GPU ends in order, and another takes its place at once.
    """
    left = ROUNDS
    while open_tasks := [task for task in run.tasks if not run.settled(task)]:
        doing = _local_round(run, min(workers, len(open_tasks)), emit)
        if run.stopped:  # by `bench cancel`
            raise KeyboardInterrupt
        left = ROUNDS if any(run.settled(task) for task in open_tasks) else left - 1
        by_id = {task.cell.id: task for task in run.tasks}
        for cell_id, stage in doing:
            task = by_id[cell_id]
            if not run.settled(task):
                text = f"its worker ended during {stage}, perhaps because memory ran out; see the log"
                run.fail(task, "killed", text, str(run.folder / "jobs"))
                emit({"event": "failed", "cell": cell_id, "label": task.cell.label, "kind": "killed", "message": text})
        if not doing and not any(run.settled(task) for task in open_tasks):
            raise ExecutorError(f"the workers ended before they finished anything; their logs are in {run.folder / 'jobs'}")
        if not left and (still := sum(not run.settled(task) for task in open_tasks)):
            raise ExecutorError(
                f"the workers ended {ROUNDS} times in a row before they finished a cell, and {still} cells are left; "
                f"their logs are in {run.folder / 'jobs'}, and the same command continues"
            )


def _local_round(run: Run, workers: int, emit: Emit) -> list[tuple[str, str]]:
    """Run workers to their end, replacing those that lost their GPU; return (cell, stage) of what others left unfinished."""
    import submitit

    gpus = names_of_gpus(visible_gpus(run.content["device"]))
    os.environ.update(WORKER_ENVIRONMENT | {CELLS_PER_GPU: str(math.ceil(workers / len(gpus)) if gpus else 1)})
    sources = [run.folder / f"events-{secrets.token_hex(3)}.jsonl" for _ in range(workers)]

    def start(number: int) -> Any:
        executor = submitit.LocalExecutor(folder=run.folder / "jobs")
        executor.update_parameters(timeout_min=60 * 24 * 365, stderr_to_stdout=True)
        if gpus:
            executor.update_parameters(gpus_per_node=1)
            executor.parameters["visible_gpus"] = [gpus[number % len(gpus)]]  # `update_parameters` takes numbers alone
        with _ignored_interrupts():
            return executor.submit(_worker, str(run.folder), str(sources[number]))

    for source in sources:
        source.touch()
    jobs = [start(number) for number in range(workers)]
    lost: set[int] = set()  # numbers of workers that lost their GPU
    offsets = [0] * workers
    progress: list[Event | None] = [None] * workers
    doing: dict[int, tuple[str, str]] = {}
    try:
        while True:
            over = all(job.done() for job in jobs)
            for number, source in enumerate(sources):
                written = run.progress(source.stem)
                if written is not None and written != progress[number]:
                    emit(written | {"worker": number})
                progress[number] = written
                offsets[number], events = _new_events(source, offsets[number])
                for event in events:
                    if event["event"] == "start":
                        doing[number] = (event["cell"], event["stage"])
                    else:
                        doing.pop(number, None)
                    if event["event"] == "lost":
                        lost.add(number)
                    emit(event | {"worker": number})
            for number in [number for number in lost if jobs[number].done()]:
                lost.remove(number)
                jobs[number], over = start(number), False
            if over:
                return list(doing.values())
            time.sleep(0.1)
    except BaseException:
        _end(run, jobs)
        raise


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Start processes that a Ctrl-C at the terminal does not reach: the driver tells them to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(run: Run, jobs: Sequence[Any]) -> None:
    """Ask workers to stop, which they notice at their next progress; end those that do not within seconds."""
    (run.folder / "stop").touch()
    deadline = time.monotonic() + SECONDS_TO_STOP
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(0.05)
    for job in jobs:
        if not job.done():
            controller = psutil.Process(int(job.job_id))
            for process in [*controller.children(recursive=True), controller]:
                process.kill()


def _worker(folder: str, source: str) -> str:
    """What a job runs: the only things sent to it are two paths."""
    run = Run(Path(folder))
    with Path(source).open("a", buffering=1, encoding="utf-8") as events:

        def emit(event: Event) -> None:
            if event["event"] != "progress":  # for which there is a file that does not grow
                print(json.dumps(event), file=events)

        try:
            device = run.content["device"].partition(":")[0]  # a worker sees its own GPU alone
            work(run, run.tasks, "train", emit, device, run.goes_on, name=Path(source).stem)
        except AbandonedError:
            return "abandoned"
        except LostDeviceError as error:
            print(json.dumps({"event": "lost"}), file=events)
            return str(error)
    return "done"


def _new_events(source: Path, offset: int) -> tuple[int, list[Event]]:
    with source.open("rb") as file:
        file.seek(offset)
        fresh = file.read()
    whole = fresh[: fresh.rfind(b"\n") + 1]
    return offset + len(whole), [json.loads(line) for line in whole.splitlines()]


@dataclass(frozen=True)
class ClusterSubmission:
    """What goes to SLURM: the pieces of a run and the arrays that hold them."""

    pieces: list[tuple[list[Task], Piece]]
    arrays: list[Array]
    left: int  # cells that stay behind, because the queue takes no more array tasks

    @classmethod
    def of(cls, plan: Plan, poisons: Path, profile: Profile, per_job: int, settings: dict[str, str]) -> ClusterSubmission:
        """Divide the cells of a plan into arrays, as `settings` (those of the cluster) and the profile allow."""

        def crafted(recipe: Recipe) -> bool:
            return (poisons / recipe.folder / "manifest.json").exists()

        pieces = slurm.divide(plan.to_run, plan.failures, per_job, crafted)
        kept = pieces[: min(profile.max_submit or len(pieces), int(settings.get("MaxJobCount", len(pieces))))]
        left = len(plan.to_run) - sum(len(tasks) for tasks, piece in kept if piece.stage != "craft")
        max_array = max(1, int(settings.get("MaxArraySize", slurm.MAX_ARRAY)))
        return cls(kept, slurm.arrays([piece for _, piece in kept], profile, max_array), left)


def submit_arrays(run: Run, submission: ClusterSubmission, profile: Profile, ranks: int) -> list[str]:
    """Send the arrays of a run to SLURM and return their numbers. SlurmError has SLURM's words; what was taken stays."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if missing := [name for name in ("sbatch", "srun") if shutil.which(name) is None]:
        raise EntryError(f"--executor slurm: no {' and no '.join(missing)} here; run it on a login node of the cluster")
    taken: list[list[Any]] = []
    for array in submission.arrays:
        run.write_sending(array.first, array.size)
        executor = _sender(run.folder, array, profile, ranks, [taken[number][0] for number in array.after], run.content)
        kept = slurm.submission_environment(os.environ)
        numbers = range(array.first, array.first + array.size)
        try:
            with submitit.helpers.clean_env():
                os.environ.update(kept)
                jobs = executor.map_array(array_task, [str(run.folder)] * array.size, numbers)
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if line.startswith("sbatch")]
            run.forget_sending()
            raise SlurmError(
                f"{(said or [str(error)])[0]}; look at the profile, or at `bench run --dry-run --show-sbatch`"
            ) from None
        taken.append([jobs[0].job_id.partition("_")[0], array.first, array.size])
        run.write_arrays(taken)
    return [str(job) for job, *_ in taken]


def scripts(submission: ClusterSubmission, profile: Profile, ranks: int, space: Workspace) -> list[str]:
    """Return the scripts that `submit` would give to sbatch; numbers and hashes that submission fixes stand in <brackets>."""
    content = {"code_path": ["<copy of the code>"]}
    found = []
    for number, array in enumerate(submission.arrays, 1):
        folder = space.private / "runs" / "<run>"
        sender = _sender(folder, array, profile, ranks, [f"<array {before + 1}>" for before in array.after], content)
        if array.size > 1:
            sender.parameters["map_count"] = array.size
        text: str = sender._make_submission_file_text(sender._submitit_command_str, "")
        found.append(f"# array {number} of {len(submission.arrays)}: {array.size} tasks\n{text}")
    return found


def _sender(folder: Path, array: Array, profile: Profile, ranks: int, after: Sequence[str], content: Mapping[str, Any]) -> Any:
    """Make the submitit executor of one array."""
    import submitit

    class Sender(submitit.SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 2  # scripts are shown on machines without SLURM too

    cpus = array.resources.cpus
    sender = Sender(folder=folder / "jobs")
    options = profile.options(array.resources)
    sender.update_parameters(
        job_name=slurm.job_name(folder.name),
        time=array.resources.time,
        cpus_per_task=cpus,
        ntasks_per_node=ranks,
        array_parallelism=array.cap,
        signal_delay_s=profile.signal,
        stderr_to_stdout=True,
        wckey=None,  # submitit's own default is refused by sites that check keys
        use_srun=profile.use_srun,
        srun_args=[f"--cpus-per-task={cpus}", *profile.srun] if profile.use_srun else None,
        dependency=f"afterany:{':'.join(after)}" if after else None,
        additional_parameters=options,
        setup=[*profile.setup, *_environment(content["code_path"], ranks), f"cd {shlex.quote(str(folder / 'empty'))}"],
    )
    return sender


def _environment(code: Sequence[str], ranks: int) -> list[str]:
    """The lines that make the `ranks` processes of a job run the code that was submitted, and nothing that lies about."""
    inherited = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]  # noqa: PTH100
    found = {"PYTHONPATH": os.pathsep.join([*code, *inherited]), "PYTHONNOUSERSITE": "1", "BENCH_DATA": str(data_root())}
    found[CELLS_PER_GPU] = str(ranks)
    return [f"export {key}={shlex.quote(value)}" for key, value in (WORKER_ENVIRONMENT | found).items()]


EXECUTORS: dict[str, Callable[[Run, int, Emit], None]] = {"local": local, "inline": inline}
CLUSTER = "slurm"


def gpu_count() -> int:
    """Count the GPUs that this process may use, without importing torch where there is none."""
    if sys.platform == "linux" and not any(list(DEVICE_FOLDER.glob(name)) for name in GPU_FILES):
        return 0
    import torch

    return torch.cuda.device_count()


def visible_gpus(device: str) -> list[int]:
    """Return the numbers of the GPUs that `cuda` or `cuda:N` means; none for a CPU."""
    name, _, number = device.partition(":")
    if name != "cuda":
        return []
    return [int(number)] if number else list(range(gpu_count()))


def names_of_gpus(numbers: Sequence[int]) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES of a worker has to say: numbers count the GPUs that this process sees, not all."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is None:
        return [str(number) for number in numbers]
    names = seen.split(",")
    return [names[number].strip() for number in numbers]


def cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(wish: str) -> str:
    """Return cpu, cuda or cuda:N for a --device flag. EntryError if there is no such device."""
    if wish == "auto":
        return "cuda" if gpu_count() else "cpu"
    name, _, number = wish.partition(":")
    if wish == "cpu" or (name == "cuda" and (not number or number.isdigit()) and int(number or 0) < gpu_count()):
        return wish
    raise EntryError(f"--device {wish}: expected auto, cpu or cuda[:N]; this machine has {gpu_count()} GPUs")


def write_not_applicable(plan: Plan, records: Records) -> None:
    """Write the records of cells that entries said they do not apply to."""
    for task in plan.tasks:
        cell_id = task.cell.id
        if plan.states[cell_id] == "not-applicable" and not records.path(cell_id).exists():
            records.write(provenance.not_applicable(task, plan.reasons[cell_id]))


def default_workers(plan: Plan, device: str, cells_per_device: int = 1) -> int:
    """As many workers per GPU as asked for; on a CPU as many as fit the threads that the protocols of the plan pin per cell."""
    if gpus := visible_gpus(device):
        return len(gpus) * cells_per_device
    threads = max((int(task.protocol.values["threads"]) or cores() for task in plan.to_run), default=1)
    return max(1, cores() // threads)
