"""What all tests share: one thread, no network, a cache and a data folder of their own, and tiny inputs.

Tests import the helpers by name: `from conftest import tiny`.
"""

import atexit
import contextlib
import importlib
import io
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="bench-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
DATA = Path(os.environ.get("BENCH_DATA", "/nonexistent"))  # the user's, read by the smoke grid alone
# before anything of ours is imported, and inherited by the processes that tests start
for variable in [name for name in os.environ if name.startswith("BENCH_")]:
    del os.environ[variable]
os.environ |= {"BENCH_DATA": str(HOME / "data"), "XDG_CACHE_HOME": str(HOME / "cache"), "OMP_NUM_THREADS": "1"}

import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402
from golden import pages  # noqa: E402
from hypothesis import settings  # noqa: E402

from unlearnable_bench.benchmark import cli  # noqa: E402
from unlearnable_bench.poisons.recipe import PoisonRecipe  # noqa: E402
from unlearnable_bench.poisons.store import Kept, Store  # noqa: E402
from unlearnable_bench.registry import ATTACKS, CATALOGS, ImageSet, Job, Parent, resolve  # noqa: E402
from unlearnable_bench.registry.data import Data, fingerprint  # noqa: E402
from unlearnable_bench.registry.spec import write_spec  # noqa: E402

SLOWEST = ("test_slurm.py", "test_run.py", "test_pipeline.py")
# files whose tests all train, start clusters, browsers or many processes, or write the whole site; other files mark single
# tests `slow`, and `make test` runs what is left
SLOW = {
    *SLOWEST,
    "test_analyses.py",
    "test_architectures.py",
    "test_attacks.py",
    "test_attacks_surrogate.py",
    "test_attacks_surrogate_free.py",
    "test_auto_encoder.py",
    "test_blanks.py",
    "test_browser.py",
    "test_contrastive.py",
    "test_d_vae.py",
    "test_defenses.py",
    "test_defenses_more.py",
    "test_diffusion.py",
    "test_example.py",
    "test_fast_document.py",
    "test_figures.py",
    "test_golden_pages.py",
    "test_gpu.py",
    "test_gpu_script.py",
    "test_interface.py",
    "test_oracles.py",
    "test_own.py",
    "test_prediction.py",
    "test_printed.py",
    "test_progress.py",
    "test_publish.py",
    "test_questions.py",
    "test_recent_attacks.py",
    "test_reference.py",
    "test_reliability.py",
    "test_reproduction.py",
    "test_selecting_defenses.py",
    "test_shared.py",
    "test_site_docs.py",
    "test_slurm_full.py",
    "test_smoke.py",
    "test_staged_defenses.py",
    "test_staged_figures.py",
    "test_toy.py",
    "test_train.py",
    "test_training_defenses.py",
    "test_unsupervised_attacks.py",
}
FAST_ONLY = "not slow"  # what `make test` selects

torch.set_num_threads(1)
# a shell ignores Ctrl-C for what it starts in the background, and so would the processes that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
# the same examples every time: a failure in CI is a failure here
settings.register_profile("bench", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("bench")


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """A test that reaches for the network fails, with a connection or without."""
    connect = socket.socket.connect

    def guarded(self, address):
        here = self.family not in (socket.AF_INET, socket.AF_INET6) or address[0] in ("::1", "localhost")
        if not here and not address[0].startswith("127."):
            raise RuntimeError(f"a test wanted to connect to {address}; tests use no network")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def published_site(tmp_path_factory) -> Path:
    """The folder of the site of the published records, in every format: written once for all processes, only read."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "published-site"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir()
            pages.render(pages.Pages.read().records, unfinished)
            unfinished.rename(folder)
    return folder


def tiny(n: int = 64, classes: int = 4, shape: tuple[int, int, int] = (3, 32, 32), seed: int = 0) -> ImageSet:
    """Random images whose labels go round the classes, the first class with the most images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(n) % classes, classes, tuple(f"class-{k}" for k in range(classes)))


def small(entry, **fields):
    """An entry with its `small` fields, with which it runs in seconds."""
    return entry(**{**entry.small, **fields})


def whole(crafted, clean: ImageSet) -> torch.Tensor:
    """The perturbation of all images in one tensor, whichever way the attack returned it."""
    if isinstance(crafted, torch.Tensor):
        return crafted
    parts = [
        delta if delta.dtype == torch.float32 else (delta.float() - clean.images[where].float()) / 255  # images themselves
        for where, delta in crafted
    ]
    return torch.cat(parts) if parts else torch.empty(0)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import slow files for `make test`."""
    fast_only = config.option.markexpr == FAST_ONLY
    return True if fast_only and collection_path.name in SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the files that take minutes first, so that no process ends with one of them alone; mark the tests of slow files."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)


def craft(attack, clean: ImageSet, seed: int = 0, kept: dict | None = None) -> torch.Tensor:
    """Craft as the store does: torch's global generator seeded too. Side products are put into `kept`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parents = (noisy(clean, seed),) if attack.chained or attack.parents else ()
        job = Job(seed=seed, parents=parents)
        noise = whole(attack.craft(clean, job), clean)
        if kept is not None:
            kept |= job.kept
        return noise


def noisy(clean: ImageSet, seed: int = 0) -> Parent:
    """A finished poison for attacks that are made from one: sample-wise random signs."""
    noise = whole(ATTACKS["random-noise"](kind="sample").craft(clean, Job(seed=seed)), clean)
    return Parent(clean, (clean.images.float() + 255 * noise).round().clamp(0, 255).to(torch.uint8))


def drawn_as_torch(net: torch.nn.Module) -> list[bool]:
    """Of every convolution, whether its weights are uniform, as torch draws them, and not normal."""
    weights = [module.weight.detach() for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    return [float(weight.std() / weight.abs().max()) > 0.5 for weight in weights]  # uniform 0.58, normal below 0.4


def as_data(train: ImageSet, test: ImageSet | None = None) -> Data:
    """What the store wants to know of a dataset."""
    test = test or train
    return Data(train, test, fingerprint(train, test))


def plug_in(site: Path, name: str, source: str, points: str, version: str = "1.0", module: str = "") -> None:
    """Install a fake distribution into the folder `site`: one module and its entry points, as pip would leave them."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module or name.replace('-', '_')}.py").write_text(textwrap.dedent(source))
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(points))


def call_bench(*arguments, code=0, workspace=None, environment=None):
    """Run `bench` in this process, check its exit code, return (standard output, standard error).

    It takes a tenth of the time of a process. Commands that train or start processes want `bench`.
    """
    command = [*map(str, arguments), *(["--workspace", str(workspace)] if workspace else [])]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["bench", *command])
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
            cli.main()
    shown = f"{out.getvalue()}\n{error.getvalue()}"
    assert (end.value.code or 0) == code, f"exit code {end.value.code}, expected {code}\n{shown}"
    return out.getvalue(), error.getvalue()


FORK = multiprocessing.get_context("fork")
BENCH = [str(Path(sys.executable).parent / "bench")]


def bench(*arguments, code=0, workspace=None, environment=None):
    """Run `bench` in a copy of this process, check its exit code, return (standard output, standard error).

    The copy has imported torch, which takes a process of its own two to four seconds; what the command changes ends with it.
    It finds the plug-ins of its `environment`, but runs no `sitecustomize` and keeps the modules that are imported here.
    """
    for module in ("torch._dynamo", "unlearnable_bench.benchmark.driver"):  # what each copy would import again
        importlib.import_module(module)
    command = [*map(str, arguments), *(["--workspace", str(workspace)] if workspace else [])]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        copy = FORK.Process(target=_bench_here, args=(command, environment or {}, out, error))
        copy.start()
        copy.join(300)
        copy.kill()
        out.seek(0), error.seek(0)
        return _checked(copy.exitcode, out.read(), error.read(), code)


def _bench_here(command, environment, out, error):
    """Be the process of a command: its output, its environment, its words."""
    for stream, number in ((out, 1), (error, 2)):
        os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = out, error
    os.environ.update(environment)
    if "PYTHONPATH" in environment:
        sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
        importlib.invalidate_caches()
        for kind, catalog in CATALOGS.items():
            vars(catalog).clear()
            catalog.__init__(kind)
    sys.argv = ["bench", *command]
    cli.main()


def bench_process(*arguments, code=0, workspace=None, environment=None):
    """Do the same with the command as it is installed, in a new process that finds the plug-ins of its `environment`."""
    command = [*BENCH, *map(str, arguments), *(["--workspace", str(workspace)] if workspace else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})}, timeout=300)
    return _checked(done.returncode, done.stdout, done.stderr, code)


def _checked(found, out, error, code):
    assert found == code, f"exit code {found}, expected {code}\n{out}\n{error}"
    assert "Traceback" not in error
    return out, error


def in_process(code: str, *arguments: object, site: Path | None = None, check: bool = True, **environment: str) -> str:
    """Run Python code in a process of its own, with the distributions of `site`; return what it printed."""
    done = start(code, *arguments, site=site, **environment)
    out, err = done.communicate(timeout=120)
    assert not check or done.returncode == 0, err
    return out if check else out + err


def start(code: str, *arguments: object, site: Path | None = None, **environment: str) -> subprocess.Popen:
    """Start Python code in a process of its own."""
    ours = filter(None, [os.environ.get("PYTHONPATH")])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ({"PYTHONPATH": os.pathsep.join([str(site), *ours])} if site else {}) | environment,
    )


def small_item(row) -> str:
    """The item of an entry with its `small` fields; a tool has noise at its left."""
    left = "random-noise(kind=sample)+" if row.facts.get("chained") else ""
    return left + write_spec(row.name, row.facts.get("small", {}))


def recipe(attack: str, seed: int = 0, dataset: str = "digits") -> PoisonRecipe:
    """The recipe of an attack on a dataset; tests hand the store other images under the dataset's name."""
    return PoisonRecipe(resolve("datasets", dataset)[0], resolve("attacks", attack), seed)


def poison(folder: Path, attack: str, clean: ImageSet, seed: int = 0) -> Kept:
    """The poison as the store publishes it: rounded to 8 bits, its budget checked."""
    return Store(folder).poison(recipe(attack, seed), as_data(clean))
