"""What goes wrong on a GPU alone, shown without one: autocast of the CPU, spies, a compiler that only counts."""

import errno
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
from conftest import plug_in, tiny
from test_cluster import planned, submitted
from torch import Tensor

from unlearnable_bench.benchmark import cell, provenance, schedule, work
from unlearnable_bench.benchmark import train as train_
from unlearnable_bench.benchmark.runs import Run
from unlearnable_bench.benchmark.train import Checkpoint, EpochFigures, Training, train
from unlearnable_bench.benchmark.work import failure_kind
from unlearnable_bench.poisons.numerics import Numerics, compiles, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, Job, Protocol, _crafting, _surrogates
from unlearnable_bench.registry._policies import operate
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry._views import contrasted, contrastive_view, jitter_gray, part_resized
from unlearnable_bench.results import Records

# Views


def all_operations(x: Tensor) -> Tensor:
    """Apply every operation of the policies, each to some of the images."""
    which = torch.arange(len(x)) % 15
    return operate(x, which, torch.full((len(x),), 0.7))


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "contrasted": lambda x: contrasted(x, 0.08),
    "part-resized": lambda x: part_resized(x, 24, 0.08),
    "contrast": lambda x: contrastive_view(x, torch.Generator().manual_seed(0), 0.08)(x),
    "jitter-gray": lambda x: jitter_gray(x, torch.Generator().manual_seed(0))(x),
    "operations": all_operations,
    "ueraser": DEFENSES["ueraser"](plasma=1.0)._changed,
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_the_same_whether_the_network_computes_in_bf16_or_not(name):
    """Under autocast, positions and hues had 8 bits: a crop of a large image was off by ten levels, one pixel in 25 another."""
    x = tiny(60).images.float() / 255
    views = []
    for bf16 in (False, True):
        with seeded(0, Numerics()), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            views.append(VIEWS[name](x))
    assert views[1].dtype == torch.float32
    assert torch.equal(views[0], views[1])


def test_a_worker_compiles_with_two_processes(monkeypatch):
    """One per core, of every worker, took more memory than the job has."""
    from torch._inductor.config import decide_compile_threads

    for name, value in schedule.WORKER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert decide_compile_threads() == 2


@pytest.mark.parametrize(("files", "count"), [((), 0), (("nvidiactl", "dri"), 0), (("nvidia0",), 3), (("dxg",), 3)])
def test_a_gpu_is_looked_for_where_the_system_has_a_file_of_one(files, count, tmp_path, monkeypatch):
    """Under WSL there is no /dev/nvidia0, and `--device auto` trained on the CPU without a word."""
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(schedule, "DEVICE_FOLDER", tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert schedule.gpu_count() == count
    assert schedule.choose_device("auto") == ("cuda" if count else "cpu")


# Failures


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["allocator", "driver", "cudnn", "cublas"],
)
def test_every_way_of_saying_that_the_gpu_is_full_is_the_same_failure(error):
    """A library that found no memory for its workspace was taken for an error of the entry at work."""
    assert failure_kind(error) == "gpu-memory"


FAULTY = '''
import os
from dataclasses import dataclass
from pathlib import Path
import torch
from unlearnable_bench.registry import Defense

def sign(name):
    with Path(os.environ["SIGNED"]).open("a") as file:
        print(name, os.getpid(), file=file)

@dataclass(frozen=True)
class Faulty(Defense):
    """Makes the GPU report an error, as an index out of range does in a kernel."""
    def augment(self, x, y):
        sign("faulty")
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\\nCompile with TORCH_USE_CUDA_DSA")

@dataclass(frozen=True)
class Sound(Defense):
    """Changes nothing."""
    def configure(self, protocol):
        sign("sound")
        return protocol
'''
POINTS = "[bench.defenses]\nfaulty = faulty_plugin:Faulty\nsound = faulty_plugin:Sound\n"
ONE_FAULT = ["run", "--dataset", "digits(per_class=5,test_per_class=2)", "--scale", "0.1"]
ONE_FAULT += ["--defense", "faulty,sound"]


@pytest.fixture
def faulty(tmp_path, monkeypatch) -> Path:
    """Install the defenses above for processes that tests start; return the file that they sign with their process."""
    plug_in(tmp_path / "site", "faulty-plugin", FAULTY, POINTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    monkeypatch.setenv("SIGNED", str(tmp_path / "signed"))
    return tmp_path / "signed"


def run_bench(*arguments: str, workspace: Path) -> subprocess.CompletedProcess[str]:
    """Run `bench` in a process of its own, which sees the plug-ins."""
    command = [str(Path(sys.executable).parent / "bench"), *arguments, "--workspace", str(workspace)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def test_after_an_error_of_the_gpu_another_process_takes_the_next_cell(faulty, tmp_path):
    """A device-side assert leaves nothing usable in its process: within seconds all cells of the worker had failed."""
    assert run_bench(*ONE_FAULT, "--workers", "1", workspace=tmp_path).returncode == 3
    signed = [line.split() for line in faulty.read_text().splitlines()]
    assert [name for name, _ in signed] == ["faulty", "sound"]
    assert len({process for _, process in signed}) == 2, "the first of them has lost the GPU"
    records = Records(tmp_path / "results/records")
    assert [failure.kind for failure in records.failures()] == ["gpu-error"]
    assert "CUDA error: device-side assert triggered; with CUDA_LAUNCH_BLOCKING=1" in next(records.failures()).message
    assert len(records.ids()) == 1
    left = [path.stem for path in (records.folder / ".leases").iterdir()]
    assert left == list(records.ids()), "the other cell is free again"


def test_in_the_process_of_the_command_an_error_of_the_gpu_is_one_sentence(faulty, tmp_path):
    """`inline` has no other process to go on in; what is left waits for the same command."""
    done = run_bench(*ONE_FAULT, "--executor", "inline", workspace=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "the GPU reported an error: CUDA error: device-side assert triggered; the same command goes on" in done.stderr
    assert [failure.kind for failure in Records(tmp_path / "results/records").failures()] == ["gpu-error"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "gpu-error"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), "gpu-error"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "gpu-error"),
        (RuntimeError("Triton Error [CUDA]: device-side assert triggered"), "gpu-error"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), "plug-in"),
        (OSError(errno.EFBIG, "File too large"), "disk"),
    ],
    ids=["cuda", "cublas", "cudnn", "triton", "unsupported", "a limit of file sizes"],
)
def test_what_a_process_does_not_survive_is_told_from_what_an_entry_did_wrong(error, kind):
    """Ending a process for each error of an entry would cost seconds a cell; going on after these costs all cells."""
    assert failure_kind(error) == kind


@pytest.mark.parametrize("taken", [True, False])
def test_a_job_of_slurm_that_lost_its_gpu_is_started_again_three_times_in_all(taken, tmp_path, monkeypatch):
    """On another node the GPU may be a sound one; where SLURM does not start it again, `bench run` submits what is left."""
    run, _ = submitted(*planned(tmp_path, seed=[0, 1]))
    asked = []

    def lost(*_, **__):
        raise work.LostDeviceError("the GPU reported an error: CUDA error: unspecified launch failure")

    monkeypatch.setattr(work, "work", lost)
    monkeypatch.setattr(work, "_complaints", lambda *_: [])
    monkeypatch.setattr(work, "_requeued", lambda attempts: asked.append(attempts) or taken)
    assert work.array_task(str(run.folder), 0).startswith("the GPU reported an error")
    assert asked == [3]
    assert (run.folder / "ended" / "0").exists() is not taken


# Checkpoints


def checkpoints_of_both(folder: Path, device: str = "cpu", dtype: str = "fp32") -> tuple[Job, Training, Checkpoint]:
    """Return a crafting and a training that keep their state in `folder`, as they are on a device."""
    data = tiny(16)
    numerics = Numerics(dtype)
    with seeded(0, numerics):
        training = Training(ARCHITECTURES["small-cnn"](4), data, Protocol(epochs=2, batch=16), (), "cpu", numerics)
    training.device = device
    return Job(device, folder=folder, numerics=numerics.on(device)), training, Checkpoint(folder / "victim.pt", seconds=0)


@pytest.mark.parametrize(("device", "dtype"), [("cuda", "fp32"), ("cuda:1", "bf16"), ("cpu", "bf16")])
def test_a_checkpoint_of_another_device_or_precision_is_not_taken_up(device, dtype, tmp_path, monkeypatch):
    """A crafting died of it each time it was tried; a victim went on in silence, half of it computed on a CPU in fp32."""
    epochs, data = [], tiny(16)
    job, training, checkpoint = checkpoints_of_both(tmp_path)
    job.save({"loop": 1})
    checkpoint.save(training._state() | {"seconds": 1.0})
    assert job.load() == {"loop": 1}
    other_job, other, _ = checkpoints_of_both(tmp_path, device, dtype)
    assert other_job.load() is None
    (tmp_path / "checkpoint-cpu-fp32-1.pt").rename(tmp_path / f"checkpoint-{other.numerics.on(device)}.pt")
    assert other_job.load() is None, "its name alone is not trusted"
    monkeypatch.setattr(other, "_resume", epochs.append)
    monkeypatch.setattr(other, "total", 0)  # nothing is trained, there may be no such device here
    other.run(data, None, checkpoint)
    assert not epochs
    monkeypatch.setattr(training, "_resume", epochs.append)
    monkeypatch.setattr(training, "total", 0)
    training.run(data, None, checkpoint)
    assert [state["seconds"] for state in epochs] == [1.0]


def test_checkpoints_of_a_cell_are_named_by_what_computes_them(tmp_path, monkeypatch):
    """Two machines that take turns on a cell do not undo each other's work."""
    places = []
    (task,) = planned(tmp_path, dataset=["digits(per_class=5,test_per_class=2)"], protocol=["quick@0.1"])[1].to_run
    monkeypatch.setattr(cell, "Checkpoint", lambda path: places.append(path) or Checkpoint(path))
    cell.run_cell(task, cell.open_store(tmp_path / "store", "cpu", None), None, tmp_path)
    assert places[0].name == f"{task.cell.id}-{provenance.tree()[:16]}-cpu-fp32-1.pt"
    assert Numerics("bf16", True, 1).on("cuda:3") == "cuda-bf16-1-compiled"


def test_a_checkpoint_is_read_into_the_memory_of_the_cpu(tmp_path, monkeypatch):
    """Rows to train on index labels on the CPU, the noise of a whole set does not fit a GPU, and generators live here."""
    places = []
    job, _, checkpoint = checkpoints_of_both(tmp_path, "cuda")
    job.save({"loop": torch.zeros(1)})
    checkpoint.save({"kept": torch.zeros(1)})
    read = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **named: places.append(named["map_location"]) or read(*args, **named))
    assert job.load() is not None and checkpoint.load() is not None
    assert places == ["cpu", "cpu"]


# Which GPU a worker sees


@pytest.mark.parametrize(
    ("seen", "device", "expected", "sharing"),
    [
        (None, "cuda", ["0", "1", "0"], "2"),
        ("3,5", "cuda", ["3", "5", "3"], "2"),
        ("3,5", "cuda:1", ["5", "5", "5"], "3"),
        ("GPU-8f, MIG-41", "cuda", ["GPU-8f", "MIG-41", "GPU-8f"], "2"),
        (None, "cpu", ["", "", ""], "1"),
    ],
)
def test_workers_see_the_gpus_that_the_command_sees(seen, device, expected, sharing, tmp_path, monkeypatch):
    """Workers were given our numbers as if they were the machine's: the job that was assigned GPU 3 computed on GPU 0."""
    space, made = planned(tmp_path, seed=[0, 1, 2])
    run = Run.create(space, Records(space.records), made, device, False)
    started = []

    def controller(cuda_devices, **_):
        started.append(cuda_devices)
        assert os.environ["BENCH_CELLS_PER_GPU"] == sharing
        return subprocess.Popen(["true"])

    monkeypatch.setattr("submitit.local.local.start_controller", controller)
    monkeypatch.setattr(schedule, "gpu_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert schedule._local_round(run, 3, lambda event: None) == []
    assert started == expected


@pytest.mark.parametrize(("sharing", "resident"), [(None, True), ("2", True), ("3", False)])
def test_the_workers_of_one_gpu_share_what_is_free_of_it(sharing, resident, monkeypatch):
    """Each found the same memory free, kept its training set there, and the last of them was out of memory."""
    images = tiny(10)  # 30,720 bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (160_000, 999_999))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    monkeypatch.delenv("BENCH_CELLS_PER_GPU", raising=False)
    if sharing is not None:
        monkeypatch.setenv("BENCH_CELLS_PER_GPU", sharing)
    assert train_._Source(images, "cuda").resident == resident


# What one cell leaves to the next


def test_the_peak_memory_of_a_cell_is_its_own(tmp_path, monkeypatch):
    """A worker's small cells had the peak of the largest before them, and plans of memory follow what records say."""
    card = {"allocated": 0, "peak": 0}

    def victim(task, *_):
        card["allocated"] = {0: 900, 1: 70}[task.cell.seed]  # bytes
        card["peak"] = max(card["peak"], card["allocated"])
        return SimpleNamespace(earlier=Spent(), numerics=Numerics(), protocol=Protocol()), EpochFigures(
            [1.0], [0.5], [0.5], [1.0]
        )

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: card.update(peak=0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: card["peak"])
    monkeypatch.setattr(provenance, "device_name", lambda device: "cuda: a card")
    monkeypatch.setattr(cell, "_victim", victim)
    tasks = planned(tmp_path, dataset=["digits(per_class=5,test_per_class=2)"], seed=[0, 1])[1].to_run
    records = [cell.run_cell(task, cell.open_store(tmp_path / "store", "cuda", None)) for task in tasks]
    assert [record.peak_memory for record in records] == [900, 70]


# Numerics


def test_fp32_means_fp32_in_products_too_and_settings_are_put_back():
    """Where an environment allows TF32, matrix products of a run in fp32 had ten bits."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    with seeded(0, Numerics()):
        products.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = True  # as an environment may have it
        with seeded(0, Numerics()):
            assert not products.allow_tf32 and not cudnn.allow_tf32
            assert cudnn.deterministic and not cudnn.benchmark
        assert products.allow_tf32 and cudnn.allow_tf32 and cudnn.benchmark
    assert (products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == before
    assert asdict(Numerics()) == {"dtype": "fp32", "compile": False, "threads": 1}, "what records have said so far"


def test_a_network_does_not_outlive_its_cell(tmp_path, monkeypatch):
    """A defense with hooks holds the training that holds the hooks: the next cell found the GPU full."""
    trained, alive = [], []

    class Remembered(Training):
        def __init__(self, *arguments):
            alive.append([optimizer() is not None for optimizer in trained])
            super().__init__(*arguments)
            trained.append(weakref.ref(self.optimizer))  # which holds the weights

    monkeypatch.setattr(cell, "Training", Remembered)
    axes = {"dataset": ["digits(per_class=5,test_per_class=2)"], "defense": ["early-stop"], "protocol": ["quick@0.1"]}
    space, made = planned(tmp_path, **axes, seed=[0, 1])
    run = Run.create(space, Records(space.records), made, "cpu", False)
    gc.disable()
    try:
        work.work(run, run.tasks, "train", lambda event: None, "cpu", lambda: True, name="0")
    finally:
        gc.enable()
    assert alive == [[], [False]] and trained[1]() is None


def test_a_gpu_is_given_back_what_is_only_cached(monkeypatch):
    """Other workers of the same GPU measure what is free."""
    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    cell.release("cuda")
    cell.release("cpu")
    assert freed == [True]


# Compiled networks


@pytest.fixture
def graphs(monkeypatch) -> list[torch.fx.GraphModule]:
    """Compile with a compiler that only keeps what it is given."""
    found: list[torch.fx.GraphModule] = []

    def compiler(graph, inputs):
        found.append(graph)
        return graph.forward

    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **named: compiled(self, backend=compiler, **named))
    limits = torch._dynamo.config
    with limits.patch(recompile_limit=limits.recompile_limit, fail_on_recompile_limit_hit=False):
        yield found
    torch.compiler.reset()


def train_compiled(size: int) -> None:
    """Train on 24 images of a size, a full batch and half of one, and judge them."""
    data = tiny(24, shape=(3, size, size))
    with seeded(0, Numerics()):
        net = ARCHITECTURES["small-cnn"](4, 3, size)
        train(net, data, data, Protocol(epochs=2, batch=16, lr=0.01), numerics=Numerics(compile=True))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, when it first compiles
def test_every_cell_of_a_worker_is_compiled_and_judged_without(graphs, monkeypatch):
    """The limit is one of all cells together: the third kind of cell ran uncompiled, and its record said the contrary."""
    monkeypatch.setattr("unlearnable_bench.benchmark.train.GRAPHS", 2)
    counts = []
    for size in (32, 24, 16):
        before = len(graphs)
        train_compiled(size)
        counts.append(len(graphs) - before)
        cell.release("cpu")
    assert counts == [2, 2, 2], "the full batch and the last one, nothing for the judged batch of 24"


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_network_that_is_compiled_too_often_is_a_failure(graphs, monkeypatch):
    """Going on uncompiled would put a wrong word into the record."""
    monkeypatch.setattr("unlearnable_bench.benchmark.train.GRAPHS", 1)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        train_compiled(32)


def test_where_a_trifle_does_not_compile_nothing_is_compiled(monkeypatch, caplog):
    """triton is there and the C compiler is not: every long cell of such a machine was a failure of a plug-in."""

    def broken(function):
        def call(x):
            raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

        return call

    long = Protocol(epochs=10**9, batch=16)
    monkeypatch.setattr("unlearnable_bench.benchmark.train.can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", broken)
    compiles.cache_clear()
    training = Training(ARCHITECTURES["small-cnn"](4), tiny(16), long, (), "cpu", Numerics())
    compiles.cache_clear()
    assert not training.numerics.compile
    assert "does not work here" in caplog.text and "Failed to find C compiler" in caplog.text


def test_a_network_whose_work_cannot_be_counted_is_trained_without_compiling(monkeypatch):
    """A plug-in may look at values, which a count of operations does not have; on a CPU nobody counts."""

    class Looking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, 4)

        def forward(self, x):
            mean = x.mean((2, 3))
            return self.head(mean) if float(mean.sum()) > 0 else self.head(-mean)

    monkeypatch.setattr("unlearnable_bench.benchmark.train.can_compile", lambda device: True)
    assert not Training(Looking(), tiny(16), Protocol(epochs=1), (), "cpu", Numerics()).numerics.compile


def test_a_surrogate_falls_back_twice_in_a_row_to_the_same_momentum():
    """The step after the first fall-back wrote into what was saved, so that the second went back to something else."""
    run = _crafting.Crafting(tiny(16), Job(), stages=3)
    net = ARCHITECTURES["small-cnn"](4)
    optimizer = _surrogates.descent_of(net, 0.1, 0.0)

    def step() -> None:
        x, y = run.batch(slice(None))
        _surrogates.train_step(net, optimizer, x, y)

    def momentum() -> list[Tensor]:
        return [state["momentum_buffer"].clone() for state in optimizer.state.values()]

    step()
    watched = _surrogates.Watched(run, net, optimizer, torch.zeros(run.clean.images.shape), False, 1)
    before = momentum()
    for _ in range(2):
        step()
        assert not torch.equal(momentum()[0], before[0])
        watched.rollback()
        assert all(torch.equal(one, other) for one, other in zip(momentum(), before, strict=True))
