"""How fast the victim engine is: ratios measured in one run, for people to read. `python -m speed.engine`, or `make speed`.

The reference is a loop as the incumbent benchmark has it: a DataLoader that opens the poisoned image and its clean twin
through PIL one by one, fp32 in NCHW order, two host synchronisations a batch, the whole test set every epoch. Variants
alternate in every round; a row shows the least, the middle and the largest ratio of the rounds. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.augment import Batch, crop, flip, floats
from unlearnable_bench.benchmark.contrastive import Views
from unlearnable_bench.benchmark.schedule import WORKER_ENVIRONMENT
from unlearnable_bench.benchmark.train import Training, judge_network
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, DATASETS, DEFENSES, PROTOCOLS, ImageSet, Protocol
from unlearnable_bench.registry._views import contrasted

LOADED = 4096  # images of the data path alone: enough that starting a loader's workers does not count

Row = tuple[str, float, float, float, str]


def images(count: int) -> ImageSet:
    """Random images of the shape of CIFAR-10."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 10, 10)


class PerImage(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """One PNG and its clean twin per item, cropped and flipped by PIL: the incumbent's shape of data path."""

    def __init__(self, data: ImageSet) -> None:
        from PIL import Image

        self.files: list[bytes] = []
        for row in range(len(data)):
            with io.BytesIO() as file:
                Image.fromarray(data.images[row].permute(1, 2, 0).numpy()).save(file, "PNG")
                self.files.append(file.getvalue())
        self.labels = data.labels.tolist()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        poisoned, _clean_twin = self._open(row), self._open(row)
        return poisoned, self.labels[row]

    def _open(self, row: int) -> Tensor:
        from PIL import Image, ImageOps
        from torchvision.transforms import functional as vision

        image = ImageOps.expand(Image.open(io.BytesIO(self.files[row])).convert("RGB"), 4)
        left, top = (int(v) for v in torch.randint(0, 9, (2,)))
        image = image.crop((left, top, left + 32, top + 32))
        if float(torch.rand(())) < 0.5:
            image = ImageOps.mirror(image)
        found: Tensor = vision.to_tensor(image)
        return found


class TwoViews(PerImage):
    """Two views of a PNG by torchvision's transforms of PIL images, as public code of contrastive learning has them."""

    def __init__(self, data: ImageSet, area: float) -> None:
        from torchvision import transforms as t

        super().__init__(data)
        colours = t.RandomApply([t.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)
        crop = t.RandomResizedCrop(data.images.shape[3], (area, 1.0))
        self.view = t.Compose([crop, t.RandomHorizontalFlip(), colours, t.RandomGrayscale(0.2), t.ToTensor()])

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        from PIL import Image

        image = Image.open(io.BytesIO(self.files[row])).convert("RGB")
        return self.view(image), self.view(image)


def loader(data: PerImage, workers: int) -> Any:
    return torch.utils.data.DataLoader(data, 128, num_workers=workers, drop_last=True)


def drained(batches: Any) -> None:
    for _ in batches:
        pass


def reference_epoch(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, device: str, pgd: int = 0) -> None:
    """One epoch of the reference loop, on what `pgd` steps of PGD make of the images."""
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        if pgd:
            x = _attacked(net, x, y, pgd)
        net.train()
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss.item())
        float(loss.item())


def _attacked(net: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """PGD as the incumbent has it: evaluation mode, frozen parameters."""
    net.eval().requires_grad_(False)
    z = (x + torch.empty_like(x).uniform_(-8 / 255, 8 / 255)).clamp(0, 1)
    for _ in range(steps):
        z.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(z), y), z)
        z = torch.min(torch.max(z.detach() + 2 / 255 * gradient.sign(), x - 8 / 255), x + 8 / 255).clamp(0, 1)
    net.requires_grad_(True)
    return z


def timed(work: Callable[[], object], device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    start = clock()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return clock() - start


def ratios(
    name: str,
    slow: Callable[[], object],
    fast: Callable[[], object],
    device: str,
    rounds: int,
    count: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Alternate two variants; the ratio says how many times faster the second is, the last column how fast."""
    slow(), fast()
    found, seconds = [], []
    for _ in range(rounds):
        a, b = timed(slow, device, clock), timed(fast, device, clock)
        found.append(a / b)
        seconds.append(b)
    return name, min(found), statistics.median(found), max(found), f"{count / min(seconds):,.0f} img/s"


def matrix_peak(device: str, dtype: torch.dtype) -> float:
    """Return the largest FLOP/s of a matrix product seen on this device."""
    size = 8192 if device.startswith("cuda") else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b, device) for _ in range(6))


def measure(count: int, rounds: int, device: str) -> list[Row]:
    """Return the rows of the table: name, least, middle and largest ratio, our figure."""
    from unlearnable_bench.registry import _vision

    _vision.prepare()
    data, rows = images(count), []
    numerics = Numerics.choose(device, "auto")
    base = Protocol(epochs=1, batch=128, drop_last=True, lr=0.01, augmentation=("crop", "flip"))
    resnet = ARCHITECTURES["resnet18"]
    files = PerImage(data)

    def training(protocol: Protocol, defenses: tuple[Any, ...] = (), precision: Numerics = numerics) -> Training:
        return Training(resnet(10), data, protocol, defenses, device, precision)

    def epoch(one: Training) -> Callable[[], None]:
        def go() -> None:
            one.step = 0
            one._one_epoch()

        return go

    ours = training(base)
    large, large_files = images(LOADED), PerImage(images(LOADED))
    loaded = Training(resnet(10), large, base, (), device, numerics).source
    order = torch.randperm(LOADED).split(128)

    def our_data() -> None:
        for index, x, _ in loaded.batches(order):
            floats(flip(crop(x, Batch(32, index)), Batch(32, index)))

    workers = {n: timed(lambda n=n: drained(loader(large_files, n)), device) for n in (0, 2, 4)}  # type: ignore[misc]
    best = min(workers, key=lambda n: workers[n])
    path = f"data path alone, against a loader of {best} workers"
    rows.append(ratios(path, lambda: drained(loader(large_files, best)), our_data, device, rounds, LOADED))

    net = resnet(10).to(device)
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    reference = lambda: reference_epoch(net, sgd, loader(files, best), device)  # noqa: E731
    rows.append(ratios("training, end to end, against the reference loop", reference, epoch(ours), device, rounds, count))
    plain = training(replace(base, augmentation=()))
    bare = _bare_steps(resnet(10), count, numerics, device)
    rows.append(ratios("training with crop and flip, against bare steps", bare, epoch(ours), device, rounds, count))
    for name in ("rotate20", "resized-crop", "jitter"):
        other = training(replace(base, augmentation=(name,)))
        rows.append(ratios(f"training with {name}, against none", epoch(plain), epoch(other), device, rounds, count))
    other = training(replace(base, augmentation=()), (DEFENSES["cutout"](),))
    rows.append(ratios("training with cutout, against none", epoch(plain), epoch(other), device, rounds, count))

    few = ImageSet(data.images[:128], data.labels[:128], 10)
    pgd = Training(resnet(10), few, replace(base, augmentation=()), (DEFENSES["at"](),), device, numerics)
    short = Training(resnet(10), few, replace(base, augmentation=()), (), device, numerics)
    rows.append(ratios("PGD-10, how many plain steps it takes", epoch(pgd), epoch(short), device, rounds, 128))
    few_files = PerImage(few)
    theirs = lambda: reference_epoch(net, sgd, loader(few_files, 0), device, pgd=10)  # noqa: E731
    rows.append(ratios("PGD-10, against PGD-10 in the reference loop", theirs, epoch(pgd), device, rounds, 128))
    rows += contrastive(data, rounds, device, numerics, best)
    last, test = torch.channels_last, images(1000)
    judged = (resnet(10).to(device), resnet(10).to(device, memory_format=last))
    slow, fast = (
        (lambda: _judge_plainly(judged[0], test, device)),
        (lambda: judge_network(judged[1], test, device, 0, ours.bf16)),
    )
    rows.append(ratios("evaluation, against fp32 in NCHW order", slow, fast, device, rounds, 1000))

    flops = 3 * 2 * 0.555e9 * (count // 128) * 128  # three passes of forward multiply-adds
    dtype = torch.bfloat16 if ours.bf16 else torch.float32
    shares, peak = [], 0.0
    for _ in range(rounds):
        peak = max(peak, matrix_peak(device, dtype))
        shares.append(flops / timed(bare, device))
    low, middle, high = (value / peak for value in (min(shares), statistics.median(shares), max(shares)))
    rows.append(("share of the matrix peak, bare steps", low, middle, high, f"of {peak / 1e9:,.0f} GFLOP/s, {numerics.dtype}"))
    return rows


def contrastive(
    data: ImageSet,
    rounds: int,
    device: str,
    numerics: Numerics,
    workers: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Rows of training without labels: its two views, and SimCLR's steps, against transforms one image at a time."""
    from unlearnable_bench.registry import _vision

    _vision.prepare()
    protocol = PROTOCOLS["simclr"](epochs=1, batch=128)
    files, x = TwoViews(data, protocol.area), floats(data.images.to(device))
    net = ARCHITECTURES["resnet18"](10)
    ours = Training(net, data, protocol, (Views(protocol),), device, numerics)
    model = protocol.objective(ARCHITECTURES["resnet18"](10)).to(device)
    adam = torch.optim.Adam(model.parameters(), protocol.lr)

    def our_views() -> None:
        for part in x.split(128):
            contrasted(part, protocol.area), contrasted(part, protocol.area)

    def our_epoch() -> None:
        ours.step = 0
        ours._one_epoch()

    def their_epoch() -> None:
        for first, second in loader(files, workers):
            loss = model(first.to(device), second.to(device))
            adam.zero_grad()
            loss.backward()
            adam.step()
            float(loss.item())

    against = f"a loader of {workers} workers and torchvision, image by image"
    views = ratios(
        f"two views alone, against {against}",
        lambda: drained(loader(files, workers)),
        our_views,
        device,
        rounds,
        len(data),
        clock,
    )
    steps = ratios(f"SimCLR's training, against {against}", their_epoch, our_epoch, device, rounds, len(data), clock)
    return [views, steps]


def _bare_steps(net: nn.Module, count: int, numerics: Numerics, device: str) -> Callable[[], None]:
    """Nothing but steps on one batch that lies ready: what no loop can beat."""
    net = net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.9, fused=device.startswith("cuda"))
    x = torch.rand(128, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.arange(128, device=device) % 10

    def go() -> None:
        for _ in range(count // 128):
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=numerics.dtype == "bf16"):
                loss = F.cross_entropy(net(x), y)
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()

    return go


def _judge_plainly(net: nn.Module, data: ImageSet, device: str) -> None:
    net.eval()
    with torch.no_grad():
        for where in data.batches(1000):
            net(data.pixels(where, device)).argmax(1)


def peak_memory(device: str) -> str:
    """Return the peak memory of a process that trains and judges ResNet-18 on a set of CIFAR-10's size."""
    command = [sys.executable, "-m", "speed.engine", "--memory", "--device", device]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def tiny_cells(rounds: int) -> Row:
    """Compare two processes of one thread with one process of two threads, on cells of the quick grid."""

    def seconds(threads: int, cells: int) -> list[float]:
        command = [sys.executable, "-m", "speed.engine", "--tiny", str(threads)]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cells)]
        return [float(one.communicate()[0]) for one in started]

    found = []
    for _ in range(rounds):
        together, alone = max(seconds(1, 2)), seconds(2, 1)[0]
        found.append(2 * alone / together)
    name = "cells of the quick grid, two processes of one thread against one of two"
    return name, min(found), statistics.median(found), max(found), f"{2 * 60 / together:,.0f} cells/min"


def print_tiny(threads: int) -> None:
    """Train one cell of the quick grid and say how many seconds it took."""
    data, test = DATASETS["digits"](Path())
    with seeded(0, Numerics(threads=threads)):
        victim = Training(ARCHITECTURES["small-cnn"](10), data, PROTOCOLS["quick"](), (), "cpu", Numerics(threads=threads))
        print(timed(lambda: victim.run(test, None, None), "cpu"))


def print_peak_memory(device: str) -> None:
    """Train three steps, judge 1,000 images, and say what this process took."""
    numerics = Numerics.choose(device, "auto")
    data = images(50_000)
    protocol = Protocol(steps=3, batch=128, augmentation=("crop", "flip"))
    with seeded(0, numerics, device):
        Training(ARCHITECTURES["resnet18"](10), data, protocol, (), device, numerics).run(images(1000), None, None)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    text = f"{int(status['VmHWM'].split()[0]) / 2**20:.2f} GiB"  # of this program alone; ru_maxrss counts its parent's
    print(text + (f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of the GPU" if device.startswith("cuda") else ""))


def main() -> None:
    """Print the table as Markdown."""
    if any(name not in os.environ for name in WORKER_ENVIRONMENT):  # measured in the environment that workers have
        command = [sys.executable, "-m", "speed.engine", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | WORKER_ENVIRONMENT)  # noqa: S606  (ourselves)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="training images of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--contrastive",
        action="store_true",
        help="print the rows of training without labels and nothing else; of a CPU in processor seconds of one thread",
    )
    parser.add_argument("--memory", action="store_true", help="print the peak memory of a training and nothing else")
    parser.add_argument("--tiny", type=int, default=0, help="print the seconds of a tiny cell on so many threads, nothing else")
    chosen = parser.parse_args()
    if chosen.memory:
        return print_peak_memory(chosen.device)
    if chosen.tiny:
        return print_tiny(chosen.tiny)
    numerics = Numerics.choose(chosen.device, "auto", 1 if chosen.contrastive else 0)
    with seeded(0, numerics, chosen.device):
        if chosen.contrastive:
            clock = time.perf_counter if chosen.device.startswith("cuda") else time.process_time
            rows = contrastive(images(chosen.images), chosen.rounds, chosen.device, numerics, 0, clock)
        else:
            rows = [*measure(chosen.images, chosen.rounds, chosen.device), tiny_cells(chosen.rounds)]
    versions = provenance.versions()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {provenance.device_name(chosen.device)}, {numerics.threads} threads, ", end="")
    print(f"{numerics.dtype}, torch {versions['torch']}, python {versions['python']}, tree {provenance.tree()[:12]}.")
    print(f"\nResNet-18 with the CIFAR stem, batch 128, {chosen.images} images an epoch, {chosen.rounds} rounds.\n")
    print("| figure | least | middle | largest | ours |\n| --- | ---: | ---: | ---: | --- |")
    for name, low, middle, high, note in rows:
        print(f"| {name} | {low:.2f} | {middle:.2f} | {high:.2f} | {note} |")
    if not chosen.contrastive:
        print(f"\nPeak memory of a process that trains on 50,000 images and judges: {peak_memory(chosen.device)}.")


if __name__ == "__main__":
    main()
