"""SDA+AN: drown what a small network reads off a poison in noise against that network, then augment strongly."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable, Protocol
from unlearnable_bench.registry._papers import DETECTION_AND_DEFENSE
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("sda-an")
@dataclass(frozen=True)
class StrongAugmentation(Defense):
    """Stronger data augmentations with adversarial noises (Zhu et al.); its authors' code is called UDP.

    A network of two layers is trained on the poison, each batch replaced by its worst case within epsilon (10 steps of a
    quarter of it, no random start). Noise against that network, 10 steps of an eighth, is added to the images once. Victims
    then see the augmentations of SimCLR at `strength` s in place of the protocol's: resized crops of 1 - 0.9 s to 1 of the
    area, mirroring, jitter with probability 0.8 s and factors within 0.4 s (hue 0.1 s), gray with 0.2 s. At `strength=0` the
    protocol's own stay, and the noise is alone.
    Changed from the authors' code: images with their noise are rounded, not truncated, to 8 bits; crops are resized without
    smoothing. The code trains victims for 200 epochs along a cosine; ours have the protocol's length. The network has as many
    hidden units as an image has values: 9.4 million weights at 3x32x32, whose training is the larger part of the work.
    """

    strength: float = 1.0  # of the augmentations, 0..1
    epsilon: float = 8 / 255  # linf radius of the noise and of the adversary, pixel units
    steps: int = 10  # of both
    epochs: int = 100  # of the two-layer network
    batch: int = 128  # images, of its training
    lr: float = 0.01  # of its training; a tenth from three quarters and nine tenths of the epochs on
    width: int = 0  # its hidden units; 0: as many as an image has values

    display_name = "Strong augmentation with adversarial noise"
    label = "SDA+AN"
    small: ClassVar[dict[str, Any]] = {"epochs": 2, "batch": 32, "width": 16}
    paper = DETECTION_AND_DEFENSE

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise EntryError(f"defense sda-an: strength={self.strength}, expected 0 to 1")
        if self.epsilon < 0 or min(self.steps, self.epochs, self.batch) < 1 or self.width < 0:
            raise EntryError(f"defense sda-an: expected counts of 1 or more, epsilon and width of 0 or more, found {self}")

    def applies(self, info: DataInfo) -> None:
        if self.strength and info.shape[1] != info.shape[2]:
            raise NotApplicable(f"crops square images, these are {info.shape[1]}x{info.shape[2]}; try strength=0")

    def configure(self, protocol: Protocol) -> Protocol:
        return replace(protocol, augmentation=()) if self.strength else protocol

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._two_layer import Ascent, TwoLayerTraining, fit, two_layer

        net = two_layer(train.images[0].numel(), train.num_classes, self.width).to(job.device)
        adversary = Ascent(self.epsilon, self.epsilon / 4, self.steps)
        plan = TwoLayerTraining(self.epochs, self.batch, self.lr)
        fit(net, train, plan, job, adversary)
        noise = Ascent(self.epsilon, self.epsilon / 8, self.steps)
        result = job.empty(train.images.shape, torch.uint8)
        for where in train.batches():
            x, y = train.pixels(where, job.device), train.labels[where].to(job.device)
            result[where] = noise(net, x, y).mul(255).round().byte()
        return replace(train, images=result)

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not self.strength:
            return x, y
        from unlearnable_bench.registry._photo import chosen, colors_and_gray, some
        from unlearnable_bench.registry._views import part_resized

        s = self.strength
        x = part_resized(x, x.shape[3], 1 - 0.9 * s)
        x = chosen(some(x, 0.5), x.flip(3), x)
        return colors_and_gray(x, 0.8 * s, 0.2 * s, 0.4 * s, 0.1 * s), y
