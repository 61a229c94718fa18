"""The training loop, on tiny data."""

import dataclasses

import pytest
import torch
from torch import nn

from benchmark.conformance import tiny
from benchmark.train import AUGMENTATIONS, DivergedError, crop, evaluate, flip, train
from poisons.numerics import Numerics, seeded
from registry import ARCHITECTURES, DEFENSES, Defense, EntryError, Protocol

SHORT = Protocol(epochs=2, batch=16, lr=0.05)


def fit(protocol=SHORT, defenses=(), seed=0, data=None):
    data = data or tiny()
    with seeded(seed, Numerics()):
        net = ARCHITECTURES["small-cnn"](data.num_classes)
        return train(net, data, data, protocol, defenses)


def test_the_same_seed_gives_the_same_curve_and_another_seed_another():
    """A cell is repeatable, and its seed matters."""
    first, second, other = fit(seed=0), fit(seed=0), fit(seed=1)
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert first.train_loss != other.train_loss


def test_training_learns_and_reports_every_epoch():
    """The loop really trains: sixteen images of each class are learnt by heart."""
    seen = []
    data = tiny()
    with seeded(0, Numerics()):
        net = ARCHITECTURES["small-cnn"](4)
        protocol = dataclasses.replace(SHORT, epochs=30)
        curve = train(net, data, data, protocol, report=lambda *figures: seen.append(figures))
    assert curve.train_acc[-1] > 0.9
    assert [epoch for epoch, _, _ in seen] == list(range(1, 31))
    assert curve.test_acc[-1] == seen[-1][2] == evaluate(net, data)[0]


def test_scaled_protocol_trains_a_part_of_the_epochs():
    """`name@0.5` means half of the epochs, and at least one."""
    assert len(fit(Protocol(epochs=4, batch=16, lr=0.01, scale=0.5)).test_acc) == 2
    assert Protocol(epochs=4, scale=0.01).total_epochs == 1


def test_hooks_of_a_chain_run_in_their_order():
    """A chain is augment left to right, then the one loss; configure and model act before."""
    calls = []

    @dataclasses.dataclass(frozen=True)
    class Spy(Defense):
        name: str = "a"

        def configure(self, protocol):
            calls.append(f"configure {self.name}")
            return dataclasses.replace(protocol, epochs=1)

        def model(self, net):
            calls.append(f"model {self.name}")
            return net

        def augment(self, x, y):
            calls.append(f"augment {self.name}")
            return x, y

    curve = fit(defenses=[Spy("a"), Spy("b"), DEFENSES["at"](steps=1)])
    assert len(curve.test_acc) == 1
    assert calls[:6] == ["configure a", "configure b", "model a", "model b", "augment a", "augment b"]


def test_a_loss_that_is_no_number_ends_the_training():
    """A diverged cell must not train on and must not become a record."""

    @dataclasses.dataclass(frozen=True)
    class Poisonous(Defense):
        def loss(self, model, x, y, progress):
            return super().loss(model, x, y, progress) * float("nan")

    with pytest.raises(DivergedError, match="training loss was nan in epoch 1 of 2"):
        fit(defenses=[Poisonous()])


def test_at_takes_the_protocols_own_schedule_for_adversarial_training():
    """Papers train longer under attack; the protocol says so, not the defense."""

    @dataclasses.dataclass(frozen=True)
    class Longer(Protocol):
        adversarial = {"epochs": 3}  # noqa: RUF012

    assert len(fit(Longer(epochs=1, batch=32, lr=0.01), [DEFENSES["at"](steps=1)]).test_acc) == 3
    assert len(fit(Longer(epochs=1, batch=32, lr=0.01)).test_acc) == 1


def test_crop_shifts_every_image_its_own_way_and_flip_mirrors_half():
    """Augmentation is per image: a batch-wide draw would leak a constant to a network."""
    with seeded(0, Numerics()):
        x = torch.rand(256, 3, 8, 8)
        shifted, mirrored = crop(x), flip(x)
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    windows = {(r, c): (shifted == padded[:, :, r : r + 8, c : c + 8]).flatten(1).all(1) for r in range(9) for c in range(9)}
    assert torch.stack(list(windows.values())).any(0).all(), "every image is a window of its padded self"
    assert sum(bool(found.any()) for found in windows.values()) > 60, "windows differ between images"
    flipped = (mirrored == x.flip(3)).flatten(1).all(1)
    assert 90 < int(flipped.sum()) < 166
    assert (mirrored[~flipped] == x[~flipped]).all()
    assert set(AUGMENTATIONS) == {"crop", "flip"}


def test_normalisation_is_part_of_the_victim_not_of_the_data():
    """Attacks and budgets stay in pixel units whatever mean a protocol has."""
    plain = fit(dataclasses.replace(SHORT, epochs=1))
    scaled = fit(dataclasses.replace(SHORT, epochs=1, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
    assert plain.train_loss != scaled.train_loss


def test_an_unknown_optimizer_or_schedule_is_one_sentence():
    """A protocol of somebody else may name what the loop has not."""
    with pytest.raises(EntryError, match="unknown optimizer 'lion'; known are sgd and adamw"):
        fit(dataclasses.replace(SHORT, optimizer="lion"))
    with pytest.raises(EntryError, match="unknown schedule"):
        fit(dataclasses.replace(SHORT, schedule="never"))
