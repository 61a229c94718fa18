"""EPIC: which images are left by a selection, given the outputs of the last layer."""

from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry.defenses.epic import Epic

REPOSITORY = "YuYang0901/EPIC"
FUNCTION = "train_poison_epic.get_subset, utils.subset.get_coreset"
SEED = 0
TOLERANCE = 0.0
REASON = "the package submodlib, which searches the medoids there, is replaced by a plain greedy search with its similarity"
COUNT, CLASSES, ALPHA = 80, 4, 0.2


def given(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs (N, K) that mostly agree with the labels, and the labels."""
    labels = torch.arange(COUNT) % CLASSES
    return torch.from_numpy(rng.normal(size=(COUNT, CLASSES))) * 2 + 2 * torch.eye(CLASSES)[labels], labels


class FacilityLocation:
    """What the official code uses of submodlib."""

    def __init__(self, n: int, data: np.ndarray, metric: str, mode: str) -> None:
        assert (metric, mode) == ("euclidean", "dense")
        distances = np.linalg.norm(data[:, None] - data[None], axis=2)
        self.sijs = np.exp(-distances / data.shape[1])

    def maximize(self, budget: int, **fields: object) -> list[tuple[int, float]]:
        picked: list[tuple[int, float]] = []
        covered = np.zeros(len(self.sijs))
        for _ in range(budget):
            gains = np.maximum(self.sijs - covered, 0).sum(1)
            gains[[number for number, _ in picked]] = -1
            picked.append((int(gains.argmax()), float(gains.max())))
            covered = np.maximum(covered, self.sijs[picked[-1][0]])
        return picked


def official(rng: np.random.Generator) -> Arrays:
    stand_in = ModuleType("submodlib.functions.facilityLocation")
    stand_in.FacilityLocationFunction = FacilityLocation
    names = {"submodlib": stand_in, "submodlib.functions": stand_in, stand_in.__name__: stand_in}
    with patch.dict("sys.modules", names):
        from utils.subset import get_coreset
    outputs, labels = given(rng)
    known = {"np": np, "torch": torch, "get_coreset": get_coreset}
    select = inputs.part_of("train_poison_epic", "get_subset", **known)
    args = SimpleNamespace(
        no_progress=True, backdoor=True, device="cpu", equal_num=False, greedy="LazyGreedy", metric="euclidean"
    )
    args.cluster_thresh, args.drop_after = 1.0, 1
    model = torch.nn.Identity()
    model.linear = torch.nn.Linear(1, CLASSES)  # is asked for the number of classes alone
    loader = [(outputs, labels, None, torch.arange(COUNT))]
    left = select(args, model, loader, int(ALPHA * COUNT), 5, COUNT, np.arange(COUNT))
    return {"left": np.isin(np.arange(COUNT), left).astype(np.uint8)}


def ours(rng: np.random.Generator) -> Arrays:
    outputs, labels = given(rng)
    train = ImageSet(torch.zeros(COUNT, 1, 1, 1, dtype=torch.uint8), labels, CLASSES)
    left: list[torch.Tensor] = []
    run = SimpleNamespace(
        total=10, per_epoch=1, kept=None, train=train, outputs=lambda rows: outputs[rows].clone(), keep=left.append
    )
    Epic(alpha=ALPHA, warmup=0.1).start(run).after_epoch(1)
    return {"left": left[0].numpy().astype(np.uint8)}
