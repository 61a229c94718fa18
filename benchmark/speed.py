"""How fast the victim engine is: ratios measured in one run, for people to read. `python -m benchmark.speed`, or `make speed`.

The reference is a loop as the incumbent benchmark has it: a DataLoader that opens the poisoned image and its clean twin
through PIL one by one, fp32 in NCHW order, two host synchronisations a batch, the whole test set every epoch. Variants
alternate in every round; a row shows the least, the middle and the largest ratio of the rounds. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import provenance
from benchmark.augment import AUGMENTATIONS
from benchmark.train import Training, evaluate
from poisons.numerics import Numerics, seeded
from registry import ARCHITECTURES, DEFENSES, ImageSet, Protocol

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


def loader(data: PerImage, workers: int) -> Any:
    return torch.utils.data.DataLoader(data, 128, num_workers=workers, drop_last=True)


def reference_epoch(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, device: str) -> None:
    """One epoch of the reference loop."""
    net.train()
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss.item())
        float(loss.item())


def timed(work: Callable[[], object], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ratios(name: str, slow: Callable[[], object], fast: Callable[[], object], device: str, rounds: int, count: int) -> Row:
    """Alternate two variants; the ratio says how many times faster the second is."""
    slow(), fast()
    found, seconds = [], []
    for _ in range(rounds):
        a, b = timed(slow, device), timed(fast, device)
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
    from registry import _vision

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
    order = torch.randperm(count).split(128)

    def our_data() -> None:
        for _, x, _ in ours.source.batches(order):
            AUGMENTATIONS["flip"](AUGMENTATIONS["crop"](x, 32), 32)

    workers = {n: timed(lambda n=n: [None for _ in loader(files, n)], device) for n in (0, 2)}  # type: ignore[misc]
    best = min(workers, key=lambda n: workers[n])
    path = f"data path alone, against a loader of {best} workers"
    rows.append(ratios(path, lambda: [None for _ in loader(files, best)], our_data, device, rounds, count))

    net = resnet(10).to(device)
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    reference = lambda: reference_epoch(net, sgd, loader(files, best), device)  # noqa: E731
    rows.append(ratios("training, end to end, against the reference loop", reference, epoch(ours), device, rounds, count))
    plain = training(replace(base, augmentation=()))
    rows.append(ratios("training with crop and flip, against its bare steps", epoch(ours), epoch(plain), device, rounds, count))
    for name in ("rotate20", "resized-crop", "jitter"):
        other = training(replace(base, augmentation=(name,)))
        rows.append(ratios(f"cost of {name}, against bare steps", epoch(other), epoch(plain), device, rounds, count))
    few = ImageSet(data.images[:256], data.labels[:256], 10)
    pgd = Training(resnet(10), few, replace(base, augmentation=()), (DEFENSES["at"](),), device, numerics)
    short = Training(resnet(10), few, replace(base, augmentation=()), (), device, numerics)
    rows.append(ratios("PGD-10 steps, against plain steps", epoch(pgd), epoch(short), device, rounds, 256))
    last = torch.channels_last
    judged = (resnet(10).to(device), resnet(10).to(device, memory_format=last))
    slow, fast = (lambda: _judge_plainly(judged[0], few, device)), (lambda: evaluate(judged[1], few, device, 0, ours.bf16))
    rows.append(ratios("evaluation, against fp32 in NCHW order", slow, fast, device, rounds, 256))

    flops = 3.33e9 * (count // 128) * 128  # multiply-adds of three passes through ResNet-18, twice
    peak = matrix_peak(device, torch.bfloat16 if ours.bf16 else torch.float32)
    shares = sorted(flops / timed(epoch(plain), device) / peak for _ in range(rounds))
    note = f"{peak / 1e9:,.0f} GFLOP/s peak, {numerics.dtype}"
    rows.append(("share of the matrix peak, bare steps", shares[0], statistics.median(shares), shares[-1], note))
    return rows


def _judge_plainly(net: nn.Module, data: ImageSet, device: str) -> None:
    net.eval()
    with torch.no_grad():
        for where in data.batches(1000):
            net(data.pixels(where, device)).argmax(1)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="training images of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    numerics = Numerics.choose(chosen.device, "auto")
    with seeded(0, numerics, chosen.device):
        rows = measure(chosen.images, chosen.rounds, chosen.device)
    versions = provenance.versions()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {provenance.device_name(chosen.device)}, {numerics.threads} threads, ", end="")
    print(f"{numerics.dtype}, torch {versions['torch']}, python {versions['python']}, tree {provenance.tree()[:12]}.")
    print(f"\nResNet-18 with the CIFAR stem, batch 128, {chosen.images} images an epoch, {chosen.rounds} rounds.\n")
    print("| figure | least | middle | largest | ours |\n| --- | ---: | ---: | ---: | --- |")
    for name, low, middle, high, note in rows:
        print(f"| {name} | {low:.2f} | {middle:.2f} | {high:.2f} | {note} |")
    print(f"\nPeak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB.")


if __name__ == "__main__":
    main()
