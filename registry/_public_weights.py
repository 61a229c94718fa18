"""Weights that others publish at an address with a checksum: downloads them, verifies them, and keeps them as safetensors."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.request import urlopen

from unlearnable_bench.registry._weights import fingerprint_of_weights, keep_weights, weights_root
from unlearnable_bench.registry.contract import EntryError
from unlearnable_bench.registry.entry import unknown

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "weights:"  # what a command calls them by, before the name
BLOCK = 1 << 20  # bytes read at once
PATIENCE = 60  # seconds without a byte
COUNTER = "num_batches_tracked"  # of a batch normalization; files that are older than it do not have it

Progress = Callable[[int], None]  # is told how many more bytes were read


@dataclass(frozen=True)
class PublicWeights:
    """A file of weights: where it is, how it is recognized, and the network that it belongs to."""

    name: str
    url: str
    sha256: str  # of the file
    size: int  # bytes
    network: str  # in timm
    license: str
    source: str

    @property
    def folder(self) -> Path:
        """Where its weights are kept."""
        return weights_root() / self.name

    @property
    def is_there(self) -> bool:
        return self.folder.is_dir()

    @property
    def spec(self) -> str:
        """The network with these weights, as a grid or an option takes it."""
        return f"timm(name={self.network},weights={self.name},checksum={fingerprint_of_weights(self.folder)})"

    @property
    def manifest(self) -> dict[str, Any]:
        """What is said of them beside the weights: the same on every machine, since it is part of their checksum."""
        told = {"url": self.url, "sha256": self.sha256, "license": self.license, "source": self.source}
        return told | {"architecture": f"timm(name={self.network})"}

    def get(self, file: Path | None, progress: Progress) -> None:
        """Download the file, or read a copy, verify all of it, and keep its weights. EntryError, OSError."""
        with self._opened(file) as source, tempfile.TemporaryFile() as copy:
            self._verify(_copied(source, copy, self.size + 1, progress), str(file or self.url))
            keep_weights(self.folder, self._state(copy), self.manifest)

    def _opened(self, file: Path | None) -> closing[Any]:
        return closing(file.open("rb") if file else urlopen(self.url, timeout=PATIENCE))  # noqa: S310  (addresses of ours)

    def _verify(self, sha256: str, origin: str) -> None:
        """EntryError unless it is the very file."""
        if sha256 != self.sha256:
            expected = f"expected {self.sha256} of {self.size:,} bytes"
            raise EntryError(f"{origin} has the sha256 {sha256}, {expected}; nothing was kept, get the file again")

    def _state(self, file: BinaryIO) -> dict[str, Tensor]:
        """Read the tensors of a verified file, and nothing else that a pickle could hold. EntryError."""
        import torch

        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise EntryError(f"{self.url} cannot be read as weights: {str(error).splitlines()[0]}") from None
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise EntryError(f"{self.url} holds {type(state).__name__}, expected tensors by name")
        return _completed(state)


def _copied(source: BinaryIO, copy: BinaryIO, most: int, progress: Progress) -> str:
    """Copy so many bytes of a file, or fewer where it has fewer, and return their sha256."""
    whole, left = hashlib.sha256(), most
    while block := source.read(min(BLOCK, left)):
        whole.update(block)
        copy.write(block)
        left -= len(block)
        progress(len(block))
    return whole.hexdigest()


def _completed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the counters of batch normalizations, at zero, where a file does not have them."""
    import torch

    norms = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
    counters = {f"{norm}{COUNTER}": torch.tensor(0) for norm in norms}
    return counters | {key: value.contiguous() for key, value in state.items()}


def public_weights(name: str) -> PublicWeights:
    """Return the weights of a name. EntryError."""
    if name not in PUBLIC:
        raise EntryError(unknown("public weights", name, list(PUBLIC), ""))
    return PUBLIC[name]


TORCHVISION = "BSD 3-Clause, as torchvision; trained on ImageNet, which is for research that is not commercial"


def _of_torchvision(name: str, file: str, sha256: str, size: int) -> PublicWeights:
    network = name.partition("-")[0]
    source = f"torchvision, {network}, IMAGENET1K_V1"
    return PublicWeights(name, f"https://download.pytorch.org/models/{file}", sha256, size, network, TORCHVISION, source)


PUBLIC = {
    weights.name: weights
    for weights in (
        _of_torchvision(
            "resnet18-imagenet1k-v1",
            "resnet18-f37072fd.pth",
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            46_830_571,
        ),
        _of_torchvision(
            "resnet50-imagenet1k-v1",
            "resnet50-0676ba61.pth",
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
            102_530_333,
        ),
    )
}
"""The first eight digits of a checksum are in the name of the file; torchvision verifies these alone."""
