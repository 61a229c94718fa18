"""How far the loss moves by small changes of single layers, and the thresholds of single epochs and of all of them."""

import argparse
from copy import deepcopy
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry.analyses.unlearnable_distance import UnlearnableDistance, clean_threshold, weights_of_layers

REPOSITORY = "MLsecurityLab/HowFarAreFromTrueUnlearnability"
FUNCTION = "poison_train_sharp.layer_sharpness, analysis.get_ud.get_threshold"
SEED = 37
TOLERANCE = 1e-6
REASON = "float64 on both sides; two batches in one order, two passes; the loss before is that of evaluation mode"
COUNT, SIDE, PASSES, RADIUS, RATE = 8, 16, 2, 0.02, 2.0
LAYERS = ("body.0.0", "body.1.0", "body.2.0", "head")


def given(rng: np.random.Generator) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], np.ndarray]:
    """A network, two batches, and learnabilities in two clusters: (epochs, layers)."""
    clean = inputs.image_set(rng, COUNT, SIDE)
    net = inputs.network(rng)
    x = inputs.pixels(clean)
    table = rng.uniform(0, 1, (3, 7)) + 3 * (rng.uniform(0, 1, (3, 7)) > 0.5)
    return net, list(zip(x.split(COUNT // 2), clean.labels.split(COUNT // 2), strict=True)), table


def official(rng: np.random.Generator) -> Arrays:
    from sklearn.cluster import KMeans

    net, batches, table = given(rng)
    known = {"torch": torch, "nn": nn, "np": np, "deepcopy": deepcopy}
    measured = inputs.part_of("poison_train_sharp", "layer_sharpness", **known)
    middle = inputs.part_of("analysis.get_ud", "get_threshold", np=np, KMeans=KMeans)
    asked = argparse.Namespace(iter_num=PASSES, logger=MagicMock(), writer=MagicMock())
    rates = {"sharp_lr_min": RATE, "sharp_lr_max": RATE}
    stays = {"create": True, "new": lambda part: part}
    with patch.object(Tensor, "cuda", **stays), patch.object(nn.Module, "cuda", **stays):
        found = dict(measured(asked, net, nn.CrossEntropyLoss(), batches, epsilon=RADIUS, **rates))
    thresholds = [middle(row) for row in table] + [np.mean([middle(row) for row in table])]
    return {"learnability": np.array([found[name] for name in LAYERS]), "thresholds": np.array(thresholds)}


def ours(rng: np.random.Generator) -> Arrays:
    net, batches, table = given(rng)
    plan = UnlearnableDistance(iterations=PASSES, radius=RADIUS, step_size=RATE)
    found = [plan.learnability(net, weight, batches) for weight in weights_of_layers(net)]
    tables = [*torch.from_numpy(table).split(1), torch.from_numpy(table)]
    return {"learnability": np.array(found), "thresholds": np.array([clean_threshold(epochs) for epochs in tables])}
