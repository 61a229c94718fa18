"""The noise steps of contrastive poisoning: per image on SimCLR, per class on MoCo."""

from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.recipes.attack_tue import Projected
from reference.vectors import Arrays
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._contrastive_noise import TEMPERATURES, _move
from unlearnable_bench.registry._views import contrastive_view
from unlearnable_bench.registry.attacks.ucl import UnlearnableContrastive

REPOSITORY = "kaiwenzha/contrastive-poisoning"
FUNCTION = "main.train_contrastive_poisoning, model.AttackModel, losses.SimCLRLoss, losses.MoCoLoss, cl_algs.MoCo"
SEED = 15
TOLERANCE = 1e-5
REASON = "float64 on both sides, but for our noise and losses, which are float32; one device; the views are ours on both sides"
EPSILON, STEPS, DRAWN, COUNT = 8 / 255, 4, 16, 8
ENTRIES = {
    "simclr": UnlearnableContrastive(variant="cp-s", surrogate="small-cnn", noise_steps=STEPS),
    "moco": UnlearnableContrastive(variant="cp-c", surrogate="small-cnn", backbone="moco"),
}
MEAN, STD = (torch.tensor(value).double().view(1, 3, 1, 1) for value in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))


def given(rng: np.random.Generator) -> tuple[ImageSet, Tensor]:
    """Images, some values of which the noise pushes out of the range, and the noise before the steps, float32."""
    clean = inputs.image_set(rng, COUNT)
    return clean, inputs.noise(rng, clean.images.shape, EPSILON).float()


def network(rng: np.random.Generator, clean: ImageSet, entry: UnlearnableContrastive) -> nn.Module:
    """Return our objective with their projection and weights of `rng`."""
    net = entry._net(inputs.run(clean))
    if entry.backbone == "simclr":
        net.project = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 128))
    inputs.drawn(rng, net)
    if entry.backbone == "moco":
        net.queue = F.normalize(net.queue, dim=1).float()
    return net


def seen(x: Tensor) -> Tensor:
    """What the encoder is shown of pixels."""
    return (x - MEAN) / STD


class Normal(nn.Module):
    """Encoder and projection, of length one."""

    def __init__(self, encoder: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.whole = Projected(encoder, project, normal=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x)[1]


class Module(nn.Module):
    """What their distributed wrapper is to the code: the model, called `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Tensor, **named: Tensor) -> dict[str, Tensor]:
        return self.module(*given, **named)


def backbone(net: nn.Module, name: str, cl_algs: ModuleType) -> nn.Module:
    """Return what their model has at its heart, with the parts of ours."""
    if name == "simclr":
        return Normal(net.encoder, net.project)
    encoders = iter((Normal(net.encoder, net.project), Normal(*net.slow)))
    slow = [weight.clone() for weight in net.slow.parameters()]
    made = cl_algs.MoCo(lambda **asked: next(encoders), K=len(net.queue), m=net.momentum, allow_mmt_grad=True)
    for weight, value in zip(made.encoder_k.parameters(), slow, strict=True):
        weight.data.copy_(value)
    made.queue = net.queue.T.double()
    return made


def official(rng: np.random.Generator) -> Arrays:
    stands = ("kornia", "kornia.augmentation", "torchvision", "torch.utils.tensorboard", "util", "datasets", "evaluation")
    with inputs.absent(*stands):
        import cl_algs
        import losses
        import main
        import model

    main.print_yellow = main.print_green = print
    main.reduce_mean = lambda loss, count: loss
    main.GatherLayer = SimpleNamespace(apply=lambda features: (features,))
    main.AverageMeter = lambda: SimpleNamespace(update=lambda *given: None, avg=0.0, val=0.0)
    main.dist = SimpleNamespace(barrier=lambda: None)
    cl_algs.concat_all_gather = lambda keys: keys
    clean, before = given(rng)
    x = inputs.pixels(clean)
    found = {}
    with inputs.double():
        for name, entry in ENTRIES.items():
            net, dice = network(rng, clean, entry), torch.Generator().manual_seed(DRAWN)
            tied = entry.variant == "cp-c"
            opt = SimpleNamespace(cl_alg={"simclr": "SimCLR", "moco": "MoCov2"}[name], classwise=tied, samplewise=not tied)
            opt.baseline, opt.pretrained_delta, opt.delta_weight, opt.allow_mmt_grad = False, "", EPSILON, True
            opt.model_step, opt.noise_step, opt.num_steps, opt.step_size = 0, 9, 1 if tied else STEPS, 0.1
            opt.local_rank, opt.print_freq, opt.nprocs = 1, 99, 1
            made = model.AttackModel.__new__(model.AttackModel)
            nn.Module.__init__(made)
            made.opt, made.backbone = opt, backbone(net, name, cl_algs)
            made.transform = lambda pixels, dice=dice: seen(contrastive_view(pixels, dice, 0.2)(pixels))
            start = before[: clean.num_classes] if tied else before
            made.delta = nn.Parameter(start.double() / EPSILON)
            whole = Module(made)
            criterion = losses.SimCLRLoss(TEMPERATURES[name]) if name == "simclr" else losses.MoCoLoss(TEMPERATURES[name])
            forget = torch.optim.SGD([made.delta], 0.0)
            loader = [(x, clean.labels, torch.arange(len(x)))]
            main.train_contrastive_poisoning(loader, iter(loader), whole, criterion, None, forget, 1, opt)
            found[name] = EPSILON * made.delta.detach().numpy()[:4]
    return found


def ours(rng: np.random.Generator) -> Arrays:
    clean, before = given(rng)
    found = {}
    with inputs.double():
        for name, entry in ENTRIES.items():
            net = network(rng, clean, entry)
            tied = entry.variant == "cp-c"
            plan, noise = entry.classes() if tied else entry.images(), before.clone()
            noise = noise[: clean.num_classes] if tied else noise
            _move(inputs.run(clean, DRAWN), net, plan, seen, torch.arange(len(clean)), noise, None)
            found[name] = noise.numpy()[:4]
    return found
