"""How a victim fine-tunes a network that it did not train from scratch."""

from dataclasses import dataclass

from unlearnable_bench.registry import PROTOCOLS, Protocol


@PROTOCOLS.register("finetune")
@dataclass(frozen=True)
class Finetune(Protocol):
    """Five epochs of SGD from a small learning rate, for a network with `weights`; layers may be frozen.

    From no paper: made for the finding of 2026 that poisons against networks from scratch fail when the victim is fine-tuned
    from pretrained weights, most where its first layers are frozen ("When Priors Backfire", https://arxiv.org/abs/2603.04731;
    "Channel-Level Semantic Perturbations", https://arxiv.org/abs/2605.05224; of both the abstract was read alone). The rate is
    a tenth or less of what a network from scratch takes. `finetune(frozen=-1)` is a linear probe; a network without weights
    is its control. Pixels are scaled as for CIFAR-10, as `bench pretrain` does by `fast`; see `finetune-imagenet`.
    """

    display_name = "Fine-tuning"
    label = "Fine-tuning"

    epochs: int = 5
    batch: int = 128
    drop_last: bool = True
    lr: float = 0.01
    nesterov: bool = True
    augmentation: tuple[str, ...] = ("crop", "flip")
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)
    threads: int = 1


@PROTOCOLS.register("finetune-imagenet")
@dataclass(frozen=True)
class FinetuneImagenet(Finetune):
    """Fine-tuning of a network that saw ImageNet at 224x224: images are enlarged to that, and scaled as it knows them.

    From no paper: crops are resized as is usual on ImageNet, all else is as in `finetune`.
    """

    display_name = "Fine-tuning from ImageNet"
    label = "Fine-tuning (ImageNet)"

    augmentation: tuple[str, ...] = ("resized-crop", "flip")
    input_size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
