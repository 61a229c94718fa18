"""Purifying by diffusion (`avatar`, `le`, `puregen-ddpm`): the way down, networks of the user and of the set, their names."""

import itertools
import json
import math
import sys

import pytest
import torch
from conftest import in_process, small, tiny
from safetensors.torch import save_file
from test_printed import record

from unlearnable_bench.benchmark.conformance import tiny as smooth
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import DEFENSES, EntryError, Job, NotApplicable, _diffusion, _vision, lacking, resolve
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._diffusion import Denoiser, Perceptual, kept, stairs
from unlearnable_bench.registry.contract import DataInfo
from unlearnable_bench.registry.spec import parse
from unlearnable_bench.results import Records, read_grid

PURIFIERS = ("avatar", "le", "puregen-ddpm")


def purify(defense, train, job=None):
    with seeded(0, Numerics()):
        return defense.purify(train, job or Job(seed=0)).images


@pytest.fixture
def exact(monkeypatch):
    """Stand the network in by the exact answer for pixels that are drawn from N(0.2, 0.3^2) in [-1, 1] units."""
    mean, variance, left = 0.2, 0.3**2, kept()

    class Exact(torch.nn.Module):
        def forward(self, x, level):
            k = float(left[level])
            return (1 - k) ** 0.5 * (x - k**0.5 * mean) / (k * variance + 1 - k)

    monkeypatch.setattr(_diffusion, "_untrained", lambda model, train: Exact())
    monkeypatch.setattr(_diffusion, "_fit", lambda *arguments: None)
    drawn = mean + variance**0.5 * torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    images = ((drawn + 1) * 127.5).round().clamp(0, 255).byte()
    return tiny(), images


def test_the_levels_are_those_of_the_papers():
    """What is left of the signal at the levels that AVATAR and APBench purify from: 0.897 and 0.960."""
    left = kept()
    assert float(left[0]) == 1
    assert [round(float(left[t]), 3) for t in (100, 60)] == [0.897, 0.960]
    slowly = 1.0
    for t in range(1000):
        slowly *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert float(left[t + 1]) == pytest.approx(slowly, rel=1e-12)


def test_stairs_go_all_the_way_down():
    """Published runs take every level; fewer steps still begin at the top, end at 0 and never stand still."""
    assert stairs(5, 5) == stairs(5, 9) == [5, 4, 3, 2, 1, 0]
    for steps in (1, 2, 5, 20, 99):
        levels = stairs(100, steps)
        assert levels[0] == 100 and levels[-1] == 0 and len(levels) <= steps + 1
        assert all(high > low for high, low in itertools.pairwise(levels))
    assert stairs(0, 20) == [0]


@pytest.mark.parametrize("steps", [0, 100])
def test_avatar_keeps_the_distribution_where_the_score_is_exact(exact, steps):
    """The reverse SDE with the true score must give back mean and variance of the data: the formula's own check."""
    train, images = exact
    after = purify(DEFENSES["avatar"](steps=steps), type(train)(images, train.labels, 4))
    before, now = images.double() / 127.5 - 1, after.double() / 127.5 - 1
    assert float(now.mean()) == pytest.approx(float(before.mean()), abs=0.003)  # 200,000 pixels: 0.0007 is one deviation
    assert float(now.std()) == pytest.approx(float(before.std()), abs=0.01)  # Euler steps cost a few thousandths
    assert float((now - before).square().mean()) > 0.01  # it is another draw, not the same image


def test_a_step_of_avatar_is_one_of_the_continuous_sde(monkeypatch):
    """At level 1 the discrete levels add 17 % less noise and see 5 % more of it; the published code steps in time."""
    steps = []

    def purified(defense, train, job, model, calls, walk):
        x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
        for drawn in (0.0, 1.0):
            found = walk(lambda x, level: torch.full_like(x, 0.25), x, lambda x, drawn=drawn: torch.full_like(x, drawn))
            steps.append(float(found))
        return train.images

    monkeypatch.setattr(_diffusion, "purified", purified)
    train = tiny()
    assert DEFENSES["avatar"](level=1).purify(train, Job()).images is train.images
    beta, left = (0.1 + 19.9 / 1000) / 1000, math.exp(-(19.9 / 1000 / 2 + 0.1) / 1000)
    for drawn, found in zip((0.0, 1.0), steps, strict=True):
        start = 0.9999**0.5 * 0.5 + 0.0001**0.5 * drawn
        drift = beta * (start / 2 - 0.25 / (1 - left) ** 0.5)
        assert found == pytest.approx(start + drift + beta**0.5 * drawn, abs=1e-12)


def test_avatar_at_level_zero_changes_nothing(exact):
    """No noise, no way back: the identity."""
    train = exact[0]
    assert torch.equal(purify(DEFENSES["avatar"](level=0), train), train.images)


@pytest.mark.parametrize(("steps", "off"), [(0, 0.05), (75, 0.02)])
def test_puregen_keeps_the_distribution_where_the_noise_is_exact(exact, steps, off):
    """Neither smoothed nor left noisy; in 20 steps the smaller variance, which is that of one known image, costs a little."""
    train, images = exact
    after = purify(DEFENSES["puregen-ddpm"](steps=steps), type(train)(images, train.labels, 4))
    before, x = (found.float() / 127.5 - 1 for found in (images, after))
    assert float(x.mean()) == pytest.approx(float(before.mean()), abs=0.01)
    assert float(x.std()) == pytest.approx(float(before.std()), rel=off) and not torch.equal(after, images)


def test_puregen_learns_no_level_above_its_own(monkeypatch):
    """250 levels in the paper, which found more to purify worse; and a start above them is refused."""
    models = []
    monkeypatch.setattr(_diffusion, "purified", lambda *given: models.append(given[3]) or given[1].images)
    DEFENSES["puregen-ddpm"]().purify(tiny(), Job())
    assert models[0].top == 250
    with pytest.raises(EntryError, match="top above it"):
        DEFENSES["puregen-ddpm"](level=250)


def test_the_guidance_of_le_has_the_published_scale():
    """sqrt(1 - abar) / (m sqrt(abar)) with m = (16 / 255) / 210,000, at the first, the eleventh and the last step."""
    le, left = DEFENSES["le"](), kept()
    assert [le.scale(float(left[i + 1])) for i in (0, 10, 19)] == pytest.approx([3.35e4, 1.57e5, 2.55e5], rel=5e-3)


def test_le_without_guidance_is_plain_ddpm(exact):
    """Sampling by the posterior of Ho et al., written out slowly, with the same draws."""
    train = exact[0]
    le = DEFENSES["le"](guide=0.0, rounds=2, level=3, steps=3)
    generator, left = torch.Generator().manual_seed(0), kept()
    torch.randint(2**62, (1,), generator=generator)  # of the run's dice
    net = _diffusion._untrained(None, train)
    x = train.pixels(slice(None)) * 2 - 1
    for _ in range(2):
        k = float(left[3])
        x = k**0.5 * x + (1 - k) ** 0.5 * torch.randn(x.shape, generator=generator)
        for t in (3, 2, 1):
            k, before = float(left[t]), float(left[t - 1])
            beta = 1 - k / before
            x0 = ((x - (1 - k) ** 0.5 * net(x, t)) / k**0.5).clamp(-1, 1)
            x = (before**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - k)
            if t > 1:
                x = x + beta**0.5 * torch.randn(x.shape, generator=generator)
        x = x.clamp(-1, 1)
    expected = ((x + 1) * 127.5).round().clamp(0, 255).byte()
    assert int((purify(le, train).short() - expected.short()).abs().max()) <= 1  # the last digit of float32


def test_guidance_pulls_towards_the_poisoned_image(exact):
    """With the scale turned up, what LE returns must lie closer to what it was given."""
    train = exact[0]
    near, far = (
        purify(DEFENSES["le"](guide=guide, rounds=1, switch=0, steps=20), train)
        .float()
        .sub(train.images.float())
        .square()
        .mean()
        for guide in (70_000_000.0, 0.0)
    )
    assert near < far


def of_torchvision():
    """The weights that a user's file has: those of the AlexNet of torchvision, without its classifier."""
    _vision.prepare()
    from torchvision.models import alexnet

    with torch.device("meta"):
        return list(alexnet().features.state_dict().values())


def test_the_perceptual_distance_is_one():
    """Zero for the same image, above for others, the same both ways, and sensitive to structure."""
    with seeded(0, Numerics()):
        see = Perceptual("le", "selftrained", "")
        assert [w.shape for w in see.features.state_dict().values()] == [w.shape for w in of_torchvision()]
    x = tiny(8).pixels(slice(None)) * 2 - 1
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    assert float(see(x, x).max()) == 0 and float(see(x, y).min()) > 0
    assert torch.allclose(see(x, y), see(y, x)) and see(x, y).shape == (8,)
    assert see(x[:, :1, ::2, ::2], y[:, :1, ::2, ::2]).shape == (8,)  # one channel, 16x16


def test_a_network_of_the_set_at_hand_learns_to_find_noise():
    """The default must do what its name says: after training, noise is found far better than by a linear guess."""
    train = smooth(96, side=16)
    model = _diffusion.Model("avatar", "selftrained", "", 100, 16, 15)
    x, left = train.pixels(slice(None)) * 2 - 1, float(kept()[60])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    told: list[int] = []

    def off():
        with torch.no_grad():
            return float((net(left**0.5 * x + (1 - left) ** 0.5 * noise, 60) - noise).square().mean())

    with seeded(0, Numerics()):
        net = _diffusion._untrained(model, train)
        before = off()
        _diffusion._fit(net, train, model, Crafting(train, Job(seed=0)), "t", told.append)
    assert off() < 0.75 * before and told == [3 * n for n in range(1, 16)]


@pytest.mark.parametrize("name", PURIFIERS)
def test_a_process_that_dies_goes_on_to_the_same_images(name, tmp_path, monkeypatch):
    """Purifying takes hours at full scale; what a killed process had done must not be lost, nor change the result."""
    train = tiny(160)
    defense = small(DEFENSES[name], epochs=2)
    whole = purify(defense, train)
    monkeypatch.setattr(Crafting, "due", True)
    for stop in (2, 3):  # in training, between images

        def dies(done, total, stop=stop, calls=[]):  # noqa: B006  (counts its calls)
            calls.append(done)
            if len(calls) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            purify(defense, train, Job(seed=0, folder=tmp_path, on_progress=dies))
    assert (tmp_path / "checkpoint-cpu.pt").exists()
    told = []
    again = purify(defense, train, Job(seed=0, folder=tmp_path, on_progress=lambda done, total: told.append((done, total))))
    assert torch.equal(again, whole) and len(told) == 2 and told[-1][0] == told[-1][1]


def test_sides_that_cannot_be_halved_are_not_applicable():
    """A reason in the table, not a crash in a job."""
    with pytest.raises(NotApplicable, match="even sides"):
        DEFENSES["avatar"]().applies(DataInfo((3, 31, 31), 4, 64))


# Weights of the user


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of weights as diffusers writes it, with an LPIPS beside the network."""
    from diffusers import DDPMScheduler, UNet2DModel

    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    made = tmp_path / "weights" / "mine"
    with seeded(0, Numerics()):
        net = UNet2DModel(
            32, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, add_attention=False,
            down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        see = Perceptual("le", "selftrained", "")
    net.save_pretrained(made / "unet")
    DDPMScheduler().save_pretrained(made / "scheduler")
    lins = {f"lin{n}": torch.ones(1, c, 1, 1) for n, c in enumerate((64, 192, 384, 256, 256))}
    save_file({f"features.{k}": v for k, v in see.features.state_dict().items()} | lins, made / "lpips.safetensors")
    return made


def with_weights(name, **fields):
    text = f"{name}(weights=mine,checksum=sha-0)"
    (part,) = resolve("defenses", text)
    with pytest.raises(EntryError, match=r"checksum=sha-[0-9a-f]{16}") as caught:
        part.build().applies(tiny().info)
    checksum = str(caught.value).split("has checksum=")[1].partition(";")[0]
    return small(DEFENSES[name], weights="mine", checksum=checksum, **fields)


@pytest.mark.parametrize("name", PURIFIERS)
def test_weights_of_the_user_are_read_and_their_checksum_is_told(name, folder, monkeypatch):
    """Two people who say the same item must mean the same weights; the sentence that refuses says what to write."""
    defense, train = with_weights(name, level=4), tiny(16)
    defense.applies(train.info)
    monkeypatch.setattr(_diffusion, "_fit", lambda *arguments: pytest.fail("weights were named"))
    first, second = purify(defense, train), purify(defense, train)
    assert torch.equal(first, second) and first.dtype == torch.uint8 and not torch.equal(first, train.images)
    (folder / "unet" / "config.json").write_text("{}")
    with pytest.raises(EntryError, match=r"has checksum=sha-\w+; checksum=sha-\w+ was asked for"):
        purify(defense, train)


def test_a_network_of_the_user_gives_the_noise_that_diffusers_gives(folder):
    """Levels count from 1, time steps of diffusers from 0: off by one would pass unseen."""
    from diffusers import UNet2DModel

    x = tiny(4).pixels(slice(None)) * 2 - 1
    net = _diffusion.loaded("avatar", folder, tiny(), torch.device("cpu"))
    assert isinstance(net, Denoiser)
    with torch.no_grad():
        theirs = UNet2DModel.from_pretrained(folder / "unet", use_safetensors=True)(x, 41).sample
        assert torch.allclose(net(x, 42), theirs, atol=1e-5)


def test_weights_that_do_not_fit_are_refused_in_a_sentence(folder):
    """Another size, another schedule, a pickle, a path: said before hours are spent, and never executed."""
    device = torch.device("cpu")
    with pytest.raises(EntryError, match=r"for images \(3, 32, 32\), the set has \(3, 16, 16\)"):
        _diffusion.loaded("avatar", folder, tiny(shape=(3, 16, 16)), device)
    plan = folder / "scheduler" / "scheduler_config.json"
    plan.write_text(json.dumps({"beta_schedule": "squaredcos_cap_v2"}))
    with pytest.raises(EntryError, match="beta_schedule=squaredcos_cap_v2; expected linear"):
        _diffusion.loaded("avatar", folder, tiny(), device)
    plan.unlink()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(EntryError, match="no UNet2DModel of diffusers in safetensors"):
        _diffusion.loaded("avatar", folder, tiny(), device)
    for name in ("..", "a/b", "hub:x"):
        with pytest.raises(EntryError, match="is not the name of a folder"):
            DEFENSES["avatar"](weights=name).applies(tiny().info)
    with pytest.raises(EntryError, match=r"there is no folder .*other; put .* Found: mine"):
        DEFENSES["avatar"](weights="other").applies(tiny().info)


# How they are named


@pytest.mark.parametrize("name", PURIFIERS)
def test_what_was_trained_here_is_called_so_wherever_it_is_shown(name):
    """Nobody may take a network of a minute for the paper's: the text of the item, and so records and pages, say it."""
    (part,) = resolve("defenses", name)
    assert part.text == f"{name}-selftrained" and part.needs == () and part.fields["weights"] == "selftrained"
    assert resolve("defenses", part.text) == (part,)
    (other,) = resolve("defenses", f"{name}(weights=mine,level=5)")
    assert other.text == f"{name}(weights=mine,level=5)" and other.needs == ("weights",)
    assert resolve("defenses", f"{name}-selftrained(level=5)")[0].text == f"{name}-selftrained(level=5)"
    with pytest.raises(EntryError, match="so does weights="):
        parse(f"{name}-selftrained(weights=mine)")
    with pytest.raises(EntryError, match="has no parameter"):
        resolve("defenses", "jpeg-selftrained")


def test_a_table_of_a_paper_marks_them_and_does_not_judge_them(tmp_path):
    """The paper's AVATAR has a network of 100 million weights; ours beside it is no reproduction."""
    grid, records = read_grid("d-vae/table-2").selected({"defense": ["avatar"], "attack": ["lsp*"]}, resolve), Records(tmp_path)
    for cell in grid.cells(resolve, lacking):
        records.write(record(cell, 0.5))
    (sheet,) = printed_tables(grid, records, resolve, lacking)
    (spot,) = sheet.scores.values()
    assert spot.reduced and spot.marks == ("avatar-selftrained: weights of ours, not the paper's",)


def test_planning_imports_neither_torch_nor_diffusers():
    """A grid with these defenses is planned in a second, also where the package is missing."""
    code = "import sys; from unlearnable_bench.registry import resolve; resolve('defenses', 'avatar+le')\n"
    assert in_process(code + "print([n for n in ('torch', 'diffusers') if n in sys.modules])").strip() == "[]"
    code = "import sys; from unlearnable_bench.registry.defenses import avatar, le; print('diffusers' in sys.modules)"
    assert in_process(code).strip() == "False"


def test_a_missing_package_is_one_sentence(monkeypatch):
    """An optional dependency: whoever lacks it is told what to install."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(EntryError, match=r"pip install 'unlearnable-bench\[diffusion\]'"):
        purify(small(DEFENSES["avatar"]), tiny())
