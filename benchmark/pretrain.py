"""Trains a network on clean images and keeps its weights, for victims that fine-tune it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from unlearnable_bench.benchmark.cell import network
from unlearnable_bench.benchmark.train import Report, Training
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import Contrastive, EntryError, Protocol, data
from unlearnable_bench.registry._weights import check_name, fingerprint_of_weights, keep_weights, weights_root
from unlearnable_bench.registry.architectures._network import body_state
from unlearnable_bench.registry.catalog import ConfiguredEntry


@dataclass(frozen=True)
class Pretraining:
    """What is trained on what, and under which name its weights are kept."""

    dataset: ConfiguredEntry
    architecture: ConfiguredEntry
    protocol: ConfiguredEntry
    seed: int
    name: str

    @property
    def folder(self) -> Path:
        return weights_root() / self.name

    def check(self) -> None:
        """Refuse what cannot be done, before anything is trained. EntryError."""
        check_name("pretrain --out", self.name)
        if self.folder.exists():
            raise EntryError(f"{self.folder} is there already; choose another --out, or remove it: records may name it")
        if isinstance(self.protocol.build(), Contrastive):
            raise EntryError(f"{self.protocol.text} trains without labels; expected a protocol that trains a classifier")

    def run(self, device: str, report: Report) -> float:
        """Train, write the folder and return the test accuracy, a fraction. EntryError, OSError."""
        self.check()
        protocol: Protocol = self.protocol.build()
        numerics = Numerics.choose(device, protocol.precision, protocol.threads)
        whole = data.load(self.dataset)
        info = whole.train.info
        with seeded(self.seed, numerics, device):
            net = network(self.architecture, info, protocol.input_size or info.shape[1])
            curve = Training(net, whole.train, protocol, (), device, numerics).run(whole.test, report, None)
        prefix = getattr(net, "weights_prefix", "")
        state = {key.removeprefix(prefix): value.detach().cpu().contiguous() for key, value in body_state(net).items()}
        told = {
            "dataset": self.dataset.text,
            "dataset_fingerprint": whole.fingerprint,
            "architecture": self.architecture.text,
            "protocol": self.protocol.text,
            "recipe": asdict(protocol),
            "seed": self.seed,
            "numerics": asdict(numerics),
            "test_acc": curve.test_acc[-1],
        }
        keep_weights(self.folder, state, told)
        return curve.test_acc[-1]

    @property
    def spec(self) -> str:
        """The network with these weights, as a grid or an option takes it."""
        given = {"weights": self.name, "checksum": fingerprint_of_weights(self.folder)}
        return self.architecture.changed(given).text
