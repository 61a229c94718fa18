"""Our steps beside those of public libraries that authors use, as released today: kornia, torchattacks and lightly.

The recorded results of `tests/reference/` hold our steps against the versions that authors ran; here a library is asked
anew, on other images. kornia and torchattacks are requirements of the tests (`dev`): light, and they change no other pin;
torchattacks is pinned at 3.3, since later ones ask for `requests` 2.25. lightly is none, since it brings pytorch-lightning:
`pip install --no-deps lightly` is all that these tests need.

UEraser's plasma is not here: kornia treats borders in another way since 0.6.12, which authors ran. Its vector stands for it.
"""

import importlib
import math
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.recipes import defense_ueraser
from torch import nn

from unlearnable_bench.registry import DEFENSES, _contrastive, _filters, _photo
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._policies import TRIVIAL

SEEDS = (11, 12)
NEAR = {"atol": 3e-6, "rtol": 0.0}  # float32 on both sides, in another order
RADIUS, STEP = 8 / 255, 2 / 255


def close(ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, **NEAR)


# kornia


@pytest.fixture(scope="module")
def kornia():
    return pytest.importorskip("kornia", reason="kornia, of the extra `dev`, is not installed")


MOVES = ("translate_x", "translate_y")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", defense_ueraser.RANGES)
def test_an_operation_of_ueraser_is_that_of_kornia(kornia, name, seed):
    """TrivialAugment in UEraser's code is kornia's, every image at a strength of its own.

    kornia 0.6.12, which the code pins and we follow, moved by n / (n - 1) too much; later releases move by the part asked for.
    """
    from kornia.augmentation.auto.rand_augment import ops

    x, strengths = defense_ueraser.given(np.random.default_rng(seed))
    low, high, *_ = defense_ueraser.RANGES[name]
    operation = getattr(ops, name)(low, high)
    fields, strength = operation.forward_parameters(x.shape), strengths[name]
    if operation._factor_name:
        unit = defense_ueraser.SIDE if name in MOVES else 1
        fields[operation._factor_name] = (strength * unit).to(fields[operation._factor_name].dtype)
    theirs = operation(x, fields)
    given = {"brightness": strength - 1} | dict.fromkeys(MOVES, strength * (defense_ueraser.SIDE - 1) / defense_ueraser.SIDE)
    change = dict(zip(defense_ueraser.RANGES, TRIVIAL, strict=True))[name][0]
    close(change(x, given.get(name, strength)), theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_colors_are_those_of_kornia(kornia, seed):
    """Color jitter and gray of the contrastive protocols, of `hue`, `gamma`, `brightness` and AutoAugment."""
    from kornia import color, enhance

    x, strengths = defense_ueraser.given(np.random.default_rng(seed))
    by = strengths["contrast"]
    close(_photo.brightness(x, by), enhance.adjust_brightness_accumulative(x, by))
    close(_photo.contrast(x, by), enhance.adjust_contrast_with_mean_subtraction(x, by))
    close(_photo.saturation(x, by), enhance.adjust_saturation_with_gray_subtraction(x, by))
    close(_photo.hue(x, (by - 1) / 2), enhance.adjust_hue(x, (by - 1) * math.pi))
    close(_photo.gamma(x, by), enhance.adjust_gamma(x, by))
    close(_photo.luma(x), color.rgb_to_grayscale(x))


@pytest.mark.parametrize("seed", SEEDS)
def test_filters_are_those_of_kornia_rounded(kornia, seed):
    """Those of three defenses. Beyond a border kornia's median sees black, ours the border again."""
    from kornia import filters

    levels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (4, 3, 9, 7), dtype=np.uint8))
    x = levels.float()
    assert (_filters.weighted(levels, (1, 1, 1)) - filters.box_blur(x, 3)).abs().max() <= 0.501
    assert (_filters.gaussian(levels, 0.8) - filters.gaussian_blur2d(x, (3, 3), (0.8, 0.8))).abs().max() <= 0.501
    inside = (..., slice(1, -1), slice(1, -1))
    assert torch.equal(_filters.median(levels)[inside].float(), filters.median_blur(x, 3)[inside])


# torchattacks


@pytest.fixture(scope="module")
def torchattacks():
    return pytest.importorskip("torchattacks", reason="torchattacks, of the extra `dev`, is not installed")


@pytest.fixture
def attacked():
    """A small smooth network, and images with labels: eight, so that the mean of their losses has the digits of their sum."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    return net, torch.rand(8, 3, 8, 8), torch.randint(4, (8,))


def test_fgsm_is_that_of_torchattacks(torchattacks, attacked):
    """An inner attack of `sem` and `rem`."""
    net, x, y = attacked
    ours = Adversary("fgsm", RADIUS)(net, x, y, torch.Generator())
    close(ours, torchattacks.FGSM(net, eps=RADIUS)(x, y))


@pytest.mark.parametrize("kind", ["pgd", "tpgd"])
def test_steps_from_a_random_start_are_those_of_torchattacks(torchattacks, attacked, kind):
    """One seed draws the same start on both sides."""
    net, x, y = attacked
    theirs = {"pgd": torchattacks.PGD, "tpgd": torchattacks.TPGD}[kind](net, eps=RADIUS, alpha=STEP, steps=7)
    torch.manual_seed(5)
    expected = theirs(x, y)
    found = Adversary(kind, RADIUS, 7, STEP)(net, x, y, torch.Generator().manual_seed(5))
    close(found, expected)
    assert (found - x).abs().max() > RADIUS / 2


@pytest.mark.parametrize(("norm", "radius", "step"), [("linf", RADIUS, STEP), ("l2", 0.5, 0.1)])
def test_adversarial_training_sees_what_torchattacks_finds(torchattacks, attacked, norm, radius, step):
    """In either norm, from the image itself."""
    net, x, y = attacked
    defense = DEFENSES["at"](epsilon=radius, steps=7, step_size=step, norm=norm, begin="none")
    seen = []
    net.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    defense.loss(net, x, y, 0.0)
    found = seen[-1]
    attack = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[norm]
    close(found, attack(net, eps=radius, alpha=step, steps=7, random_start=False)(x, y))


# lightly


@pytest.fixture
def lightly(monkeypatch):
    """Import a module of lightly without its packages' `__init__`: they want pytorch-lightning and all of torchvision."""
    spec = find_spec("lightly")
    if spec is None:
        pytest.skip("lightly is not installed; `pip install --no-deps lightly` is enough")
    root = Path(spec.origin).parent
    for name in ("", ".loss", ".models", ".models.modules", ".utils"):
        package = types.ModuleType(f"lightly{name}")
        package.__path__ = [str(root.joinpath(*name.split(".")))]
        monkeypatch.setitem(sys.modules, package.__name__, package)
    return importlib.import_module


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_of_simclr_is_that_of_lightly(lightly, temperature):
    """NT-Xent over both views."""
    first, second = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    theirs = lightly("lightly.loss.ntx_ent_loss").NTXentLoss(temperature)
    close(_contrastive.nt_xent(first, second, temperature), theirs(first, second))


def test_the_loss_of_moco_is_that_of_lightly(lightly):
    """Each query against its key and what is remembered."""
    queries, keys = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(2))
    theirs = lightly("lightly.loss.ntx_ent_loss").NTXentLoss(0.2, memory_bank_size=(32, 16))
    theirs(queries, keys)  # which draws what is remembered
    others = theirs.memory_bank.bank.clone()  # (32, 16)
    close(_contrastive.info_nce(queries, keys, others, 0.2), theirs(queries, keys))


def test_the_loss_of_simsiam_is_that_of_lightly(lightly):
    """Half the sum over both views."""
    torch.manual_seed(4)
    encoder = nn.Linear(5, 8)
    encoder.head, encoder.features = nn.Linear(8, 2), encoder.forward
    model = _contrastive.SimSiamObjective(encoder).eval()
    first, second = torch.randn(2, 6, 5)
    a, b = model.project(encoder(first)), model.project(encoder(second))
    theirs = lightly("lightly.loss.negative_cosine_similarity").NegativeCosineSimilarity()
    close(model(first, second), (theirs(model.predict(a), b) + theirs(model.predict(b), a)) / 2)
