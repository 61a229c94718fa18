"""D-VAE: the autoencoder in training and evaluation mode, its loss and one training step, early and late in training."""

import importlib.util
import math
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry._vae import AutoencoderRecipe, DVae, Loss, SuccessiveNetworks

REPOSITORY = "yuyi-sd/D-VAE"
FUNCTION = "configs.models.resnet.ResNetDVAE, main_vae_disentangle.VAE_Trainer.train_batch"
SEED = 0
TOLERANCE = 1e-9
REASON = "float64 on both sides; flags as in the authors' script: an embedding with a spatial extent, no label at the input"
SIDE, WIDTH, CLASSES, EPOCHS = 32, 64, 10, 60  # the published network fits no other
CASES = {"early": (0.5, 10), "late": (3.0, 11)}  # rate and epoch
"""The last epoch without a penalty, at the weight of low rates, and the first with one."""


def given(rng: np.random.Generator) -> tuple[ImageSet, nn.Module, Tensor]:
    """Images, the network, and the noise of its latents."""
    levels = rng.integers(0, 256, (2, 3, SIDE, SIDE)).astype(np.uint8)
    clean = ImageSet(torch.from_numpy(levels), torch.tensor([0, 9]), CLASSES)
    net = inputs.drawn(rng, DVae((3, SIDE, SIDE), CLASSES, WIDTH))
    with torch.no_grad():
        net.log_variance.weight.mul_(0.01)  # else the rate is larger than all else in the loss
    return clean, net, torch.from_numpy(rng.normal(size=(2, 4 * WIDTH, SIDE // 2, SIDE // 2)))


def corresponding(net: nn.Module) -> list[Tensor]:
    """The weights and buffers of our network in the order of the official one's."""
    parts = (net.mean, net.log_variance, net.code, net.image, net.perturbation)
    return [value for part in (net.encoder, *parts) for value in part.state_dict().values()] + [net.class_code.data]


def theirs(net: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """The official network with our weights, and those that correspond to ours, in order."""
    home = Path(importlib.util.find_spec("main_vae_disentangle").origin).parent
    resnet = SourceFileLoader("resnet", str(home / "configs/models/resnet.py")).load_module()
    made = resnet.ResNet18DVAE(CLASSES, stem_end_block=7, latent_dim=4 * WIDTH)
    made.spatial_emb, made.use_y = True, False
    made.set_spatial_emb()
    made = made.double()
    encoder = (made.conv1, made.bn1, made.layer1, made.layer2[0])
    parts = (*encoder, made.fc_mu, made.fc_var, made.post_conv, made.decoder, made.decoder_p, made.emb_p)
    own = [value for part in parts for value in part.state_dict().values()]
    for here, there in zip(own, corresponding(net), strict=True):
        here.data.copy_(there.reshape(here.shape))
    return made, own


def few(values: list[Tensor]) -> np.ndarray:
    """Every 997th value."""
    return torch.cat([value.double().flatten() for value in values])[::997].numpy()


def official(rng: np.random.Generator) -> Arrays:
    import util

    clean, net, noise = given(rng)
    x, y, found, losses = inputs.pixels(clean), clean.labels, {}, []
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)).double()  # is looked at, and trains nothing
    for case, (rate, epoch) in CASES.items():
        made, own = theirs(net)
        known = {"torch": torch, "nn": nn, "F": F, "math": math, "util": util, "device": "cpu"}
        trainer = inputs.part_of("main_vae_disentangle", "VAE_Trainer", args=SimpleNamespace(kd=rate), iters=1, **known)
        learner = trainer({}, None, SimpleNamespace(grad_clip=5.0, log_frequency=1))
        descent = torch.optim.Adam(made.train().parameters(), 0.005)
        here = patch.object(torch.Tensor, "cuda", lambda self: self)
        with here, patch.object(torch, "randn_like", return_value=noise):
            loss = learner.train_batch(x, y, made, classifier, descent, epoch)["loss"]
            _, image, _, _, perturbation = made.eval()(x, y)
        losses.append(float(loss.detach()))
        found[f"{case}_weights"] = few(own)
        found[f"{case}_images"] = few([image.detach(), perturbation.detach()])
    return found | {"losses": np.array(losses)}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net, noise = given(rng)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    x, y, found, losses = inputs.pixels(clean), clean.labels, {}, []
    fit = SuccessiveNetworks.fit
    for case, (rate, epoch) in CASES.items():
        net.load_state_dict(kept)
        net.train()
        rounds = SuccessiveNetworks(clean, Job(), 1)

        def stepped(
            self: SuccessiveNetworks, model: nn.Module, train: ImageSet, loss: Loss, *rest: object, epoch: int = epoch
        ) -> None:
            def of_epoch(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
                value = loss(net, x.double(), y, epoch / EPOCHS)
                losses.append(float(value.detach()))
                return value

            descent = torch.optim.Adam(net.parameters(), 0.005)
            in_order = patch.object(torch, "randperm", lambda count, **fields: torch.arange(count))
            with in_order, patch.object(torch, "randn", return_value=noise):
                fit(self, net, train, of_epoch, descent, 1, len(train))

        with patch.object(SuccessiveNetworks, "fit", stepped):
            rounds.autoencoder(clean, rate, AutoencoderRecipe(EPOCHS, len(clean), 0.005, 2))
        with patch.object(torch, "randn", return_value=noise):
            image, perturbation, _ = net.eval()(x, y)
        found[f"{case}_weights"] = few(corresponding(net))
        found[f"{case}_images"] = few([image.detach(), perturbation.detach()])
    return found | {"losses": np.array(losses)}
