"""The noise steps of transferable unlearnable examples on its three backbones, discriminant included."""

from collections.abc import Callable
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._contrastive_noise import TEMPERATURES, _move, objective
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._views import contrastive_view
from unlearnable_bench.registry.attacks.tue import Transferable, csd

REPOSITORY = "renjie3/TUE"
FUNCTION = "toolbox.PerturbationTool, unsupervised.simclr.simclr_utils.get_linear_noise_csd_loss"
SEED = 14
TOLERANCE = 1e-5
REASON = "networks in float64, pixels and views in float32, so that both sides see the same pixels at the ends of the range"
EPSILON, STEPS, DRAWN, COUNT = 8 / 255, 4, 15, 8
WEIGHTS = {"simclr": 0.1, "moco": 1.0, "simsiam": 0.1}  # of the discriminant


def given(rng: np.random.Generator) -> tuple[ImageSet, Tensor]:
    """Images, some values of which the noise pushes out of the range, and the noise before the steps, float32."""
    clean = inputs.image_set(rng, COUNT)
    return clean, inputs.noise(rng, clean.images.shape, EPSILON).float()


def network(rng: np.random.Generator, clean: ImageSet, backbone: str) -> nn.Module:
    """Return our objective of a backbone with weights of `rng`; that of SimSiam with narrower heads."""
    net = objective(inputs.run(clean), "small-cnn", backbone)
    if backbone == "simsiam":
        net.project = nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 32))
        net.predict = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 32))
    inputs.drawn(rng, net)
    net.encoder = Wide(net.encoder)
    if backbone == "moco":
        net.slow[0] = Wide(net.slow[0])
        net.queue = F.normalize(net.queue, dim=1).float()  # as their products with queries, which are float32
    return net


class Wide(nn.Module):
    """An encoder in float64 of images in float32."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def features(self, x: Tensor) -> Tensor:
        return self.encoder.features(x.double())


class Projected(nn.Module):
    """An encoder and its projection as one network; `normal` returns features too, both of length one."""

    def __init__(self, encoder: nn.Module, project: nn.Module, normal: bool) -> None:
        super().__init__()
        self.encoder, self.project, self.normal = encoder, project, normal

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.encoder.features(x)
        out = self.project(features)
        return (F.normalize(features, dim=1), F.normalize(out, dim=1)) if self.normal else out


def simsiam(net: nn.Module, theirs: ModuleType) -> nn.Module:
    """Return their SimSiam with the parts of ours."""
    made = theirs.SimSiamModel.__new__(theirs.SimSiamModel)
    nn.Module.__init__(made)
    made.backbone = Projected(net.encoder, nn.Identity(), normal=False)
    made.proj_head, made.pred_head = net.project, net.predict
    made.criterion, made.k_grad_criterion = theirs.negcos, theirs.k_grad_negcos
    return made.train()


def moco(net: nn.Module, moco_utils: ModuleType) -> nn.Module:
    """Return their MoCo with the encoders and the queue of ours."""
    encoders = iter((Projected(net.encoder, net.project, normal=False), Projected(*net.slow, normal=False)))
    with patch.object(moco_utils, "ModelBase", lambda **asked: next(encoders)):
        slow = [weight.clone() for weight in net.slow.parameters()]
        made = moco_utils.ModelMoCo(K=len(net.queue), T=TEMPERATURES["moco"], symmetric=False)
    for weight, value in zip(made.encoder_k.parameters(), slow, strict=True):
        weight.data.copy_(value)
    made.queue = net.queue.T.double()
    return made


def views() -> Callable[[Tensor], Tensor]:
    """Return our random view of a batch as a function that draws anew at each call."""
    dice = torch.Generator().manual_seed(DRAWN)
    return lambda x: contrastive_view(x, dice, 0.08, shared=True)(x)


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("torchvision", "torchvision.models", "utils", "tqdm", "warmup_scheduler"):
        import toolbox
        from unsupervised.moco import moco_utils
        from unsupervised.simclr import simclr_utils
        from unsupervised.simsiam import simsiam_utils
        from unsupervised.simsiam.methods.SimSiam import simsiam as theirs

    clean, before = given(rng)
    x, labels = clean.pixels(slice(None)), torch.stack([torch.arange(COUNT), clean.labels], 1)
    tool = toolbox.PerturbationTool(epsilon=EPSILON, num_steps=STEPS, step_size=EPSILON / 10)
    found = {}
    with patch.object(torch.Tensor, "cuda", here), patch.object(nn.Module, "cuda", here):
        for backbone, weight in WEIGHTS.items():
            net, view = network(rng, clean, backbone), views()
            for module in (simclr_utils, moco_utils, simsiam_utils):
                module.train_transform_no_totensor = view
            asked = {"random_noise": before.clone(), "eot_size": 1, "linear_noise_csd_weight": weight}
            step = getattr(tool, f"min_min_attack_{backbone}_return_loss_tensor_eot_v1")
            if backbone == "simclr":
                made = Projected(net.encoder, net.project, normal=True)
                asked["temperature"] = TEMPERATURES[backbone]
            else:
                made = simsiam(net, theirs) if backbone == "simsiam" else moco(net, moco_utils)
                asked["k_grad"] = True
            found[backbone] = step(x, x, labels, made, **asked)[0].numpy()[:4]
    return found


def here(anything: object, *place: object, **asked: object) -> object:
    """Move nothing to a GPU."""
    return anything


def ours(rng: np.random.Generator) -> Arrays:
    clean, before = given(rng)
    found = {}
    for backbone, weight in WEIGHTS.items():
        net, noise = network(rng, clean, backbone), before.clone()
        plan = Transferable(backbone=backbone, noise_steps=STEPS).plan()

        def term(delta: Tensor, y: Tensor, weight: float = weight) -> Tensor:
            return weight * csd(delta, y)

        _move(inputs.run(clean, DRAWN, Crafting), net, plan, lambda seen: seen, torch.arange(COUNT), noise, term)
        found[backbone] = noise.numpy()[:4]
    return found
