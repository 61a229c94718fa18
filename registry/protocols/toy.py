"""The recipe for effects at reduced size: thousands of images, a small network, minutes on one CPU thread."""

from dataclasses import dataclass

from unlearnable_bench.registry import PROTOCOLS, Protocol


@PROTOCOLS.register("toy")
@dataclass(frozen=True)
class Toy(Protocol):
    """16 epochs of SGD with a cosine and no augmentation, which hides most poisons from a small network.

    From no paper: setting A of our calibration of surrogate-free attacks (batch 64, SGD from 0.1, momentum 0.9, weight
    decay 5e-4, images in [0, 1]), made with 6,000 training and 2,000 test images of CIFAR-10 and four convolutions. OPS and
    class-wise noise act in the first epoch, LSP by the fourth, AR only between the seventh and the tenth: shortened by `@`
    it misses the last. The cosine goes step by step. Adversarial training is trained as plain.
    """

    display_name = "Toy recipe"
    label = "Toy"

    epochs: int = 16
    batch: int = 64
    threads: int = 1
