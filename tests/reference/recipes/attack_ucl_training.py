"""Contrastive poisoning on SimCLR: the gradient by which the encoder is trained, of four processes that share a batch."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.recipes.attack_ucl import DRAWN, ENTRIES, EPSILON, given, network, seen
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry._contrastive_noise import TEMPERATURES
from unlearnable_bench.registry._views import contrastive_view

REPOSITORY = "kaiwenzha/contrastive-poisoning"
FUNCTION = "model.AttackModel, resnet.ResNetWithHead, util.GatherLayer, losses.SimCLRLoss"
SEED = 18
TOLERANCE = 1e-4
REASON = "our loss is float32; batch normalization stands still on both sides; gradients of processes averaged as DDP does"
PROCESSES = 4
ENTRY = ENTRIES["simclr"]


class Encoder(nn.Module):
    """An encoder of ours as a function of images."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.features(x)


class Process:
    """One of several processes, as `torch.distributed` shows it: each has features of its own."""

    def __init__(self, rank: int, features: list[Tensor]) -> None:
        self.rank, self.features = rank, features

    def get_world_size(self) -> int:
        return len(self.features)

    def get_rank(self) -> int:
        return self.rank

    def all_gather(self, places: list[Tensor], own: Tensor) -> None:
        for place, features in zip(places, self.features, strict=True):
            place.copy_(features.detach())


def views(x: Tensor) -> list[Tensor]:
    """Return two random views of a batch, as the encoder sees them."""
    dice = torch.Generator().manual_seed(DRAWN)
    return [seen(contrastive_view(x, dice, 0.2)(x)) for _ in range(2)]


def gradients(encoder: nn.Module, project: nn.Module) -> Arrays:
    """Return every eleventh value of the gradients of an encoder and of its projection."""
    found = {}
    for name, net in (("encoder", encoder), ("projection", project)):
        values = [weight.grad.flatten() for weight in net.parameters() if weight.grad is not None]
        found[name] = torch.cat(values)[::11].numpy()
    return found


def official(rng: np.random.Generator) -> Arrays:
    stands = ("kornia", "kornia.augmentation", "torchvision", "termcolor", "colorlog")
    with inputs.absent(*stands):
        import losses
        import model
        import resnet
        import util

    clean, noise = given(rng)
    with inputs.double():
        net = network(rng, clean, ENTRY)
        resnet.model_dict["small-cnn"] = [lambda: Encoder(net.encoder), 64]
        backbone = resnet.ResNetWithHead("small-cnn")
        backbone.head.load_state_dict(net.project.state_dict())
        made = model.AttackModel.__new__(model.AttackModel)
        nn.Module.__init__(made)
        made.opt = SimpleNamespace(cl_alg="SimCLR", baseline=False, pretrained_delta="", classwise=False, samplewise=True)
        made.opt.delta_weight, made.backbone, made.delta = EPSILON, backbone.eval(), noise.double() / EPSILON
        x = inputs.pixels(clean)
        parts = torch.arange(len(x)).split(len(x) // PROCESSES)
        first, second = views((x + noise).clamp(0, 1))
        shown = iter([view[rows] for rows in parts for view in (first, second)])
        made.transform = lambda pixels: next(shown)
        features = [made(x[rows], rows)["features"] for rows in parts]
        for rank, own in enumerate(features):
            util.dist = Process(rank, features)
            together = torch.cat(util.GatherLayer.apply(own), 0)
            (losses.SimCLRLoss(TEMPERATURES["simclr"])(together) / PROCESSES).backward()
        return gradients(net.encoder, backbone.head)


def ours(rng: np.random.Generator) -> Arrays:
    clean, noise = given(rng)
    with inputs.double():
        net, plan = inputs.drawn(rng, ENTRY._net(inputs.run(clean))), ENTRY.images()
        (plan.scale * net(*views((inputs.pixels(clean) + noise).clamp(0, 1)))).backward()
        return gradients(net.encoder, net.project)
