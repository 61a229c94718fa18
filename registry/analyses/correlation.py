"""Which part of robust noise protects: two robustness terms along its making, correlated with the protection."""

import math
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, NotApplicable
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE

if TYPE_CHECKING:
    from unlearnable_bench.registry._batch_noise import Alternation
    from unlearnable_bench.registry._crafting import Crafting


@ANALYSES.register("correlation")
@dataclass(frozen=True)
class Correlation(Analysis):
    """Correlation of a poison's protection with the robustness of its surrogate and of its noise, while both are made.

    Table 10 and figure 3 of the paper, algorithms 2 and 3. The making of the cell's attack (`rem`, `sem`) is repeated, and
    stopped at every so many steps. There, protection is 1 less the test accuracy of a victim like the cell's that is trained on
    the images with the noise as it stands; `theta` is the robustness of the surrogate, less the mean loss of fresh noise that
    is fitted to it (equation 8), and `noise` that of the noise, less the mean loss of a new surrogate that learns on it
    (equation 9), both under the adversary. Figures: `correlation(pearson,theta)`, `(spearman,...)`, `(kendall,...)` and the
    same with `noise`; curves `step`, `protection`, `theta` and `noise`. The paper's algorithms carry each other's names and
    the opposite sign of its definitions; ours are the definitions. Not stated: how many batches a term is averaged over, and
    how many steps lie between two points. A measurement that is interrupted begins anew, and all
    points are in memory at once: a byte per value of the set each.
    """

    every: int = 500  # steps between two points
    batches: int = 500  # over which a term is averaged

    display_name = "Correlation of protection and robustness"
    label = "Correlation"
    paper = STABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "network")
    small: ClassVar[dict[str, Any]] = {"every": 1, "batches": 2}

    def __post_init__(self) -> None:
        if min(self.every, self.batches) < 1:
            raise EntryError(f"analysis correlation: every={self.every}, batches={self.batches}; expected 1 or more of both")

    def measure(self, context: Context) -> dict[str, float]:
        from scipy import stats

        attack, plan = made_by(context)
        assert context.train is not None, "a cell has victims"
        points: dict[str, list[float]] = {name: [] for name in ("step", "protection", "theta", "noise")}
        for step, weights, levels in stops(context, attack.surrogate, plan, self.every):
            images = context.clean.images.short() + levels.short()
            poisoned = replace(context.clean, images=images.clamp_(0, 255).to(torch.uint8))
            points["step"].append(float(step))
            points["protection"].append(1 - context.train(poisoned)[0])
            points["theta"].append(-refitted_noise(context, attack.surrogate, weights, plan, self.batches))
            points["noise"].append(-refitted_model(context, attack.surrogate, levels, plan, self.batches))
        if len(points["step"]) < 3:
            raise NotApplicable(f"the noise is made in {plan.train_steps} steps: fewer than three points {self.every} apart")
        context.curves.update(points)
        kinds = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
        figures = {"points": float(len(points["step"]))}
        for term in ("theta", "noise"):
            for name, function in kinds.items():
                if len(set(points[term])) > 1 and len(set(points["protection"])) > 1:  # of a constant there is none
                    value = float(function(points[term], points["protection"])[0])
                    figures |= {f"correlation({name},{term})": value} if math.isfinite(value) else {}
        return figures


def made_by(context: Context) -> tuple[Any, "Alternation"]:
    """Return the cell's attack and how it makes its noise. NotApplicable for one that does not do it batch by batch."""
    attack: Any = context.attack[0] if len(context.attack) == 1 else None
    if not hasattr(attack, "alternation") or getattr(attack, "variant", "paper") not in ("paper", "rem"):
        raise NotApplicable("its noise is not made batch by batch, as that of rem and sem is")
    return attack, attack.alternation()


def stops(context: Context, network: str, plan: "Alternation", every: int) -> Iterator[tuple[int, dict[str, Tensor], Tensor]]:
    """Yield (step, surrogate's weights, noise in 8-bit levels, int8 (N, C, H, W)) at every so many steps of the making."""
    from unlearnable_bench.registry._batch_noise import alternate
    from unlearnable_bench.registry._crafting import Crafting
    from unlearnable_bench.registry._surrogates import surrogate

    found = []

    class Stopped(Exception):  # noqa: N818  (an end, not a fault)
        pass

    class Watched(Crafting):
        steps = 0

        @property
        def due(self) -> bool:  # asked once after every step
            Watched.steps += 1
            if Watched.steps > plan.train_steps:
                raise Stopped
            return Watched.steps % every == 0

        def keep(self, stage: str, loop: dict[str, Any]) -> None:
            found.append((Watched.steps, deepcopy(loop["net"]), loop["levels"].clone()))

    run = Watched(context.clean, context.job)
    with suppress(Stopped):
        alternate(run, surrogate(run, network, sees="centred"), plan)
    yield from found


def refitted_noise(context: Context, network: str, weights: dict[str, Tensor], plan: "Alternation", batches: int) -> float:
    """Return the mean loss of a surrogate with these weights on noise that is fitted to it anew, under the adversary."""
    from torch.nn import functional as F

    from unlearnable_bench.registry._crafting import Crafting
    from unlearnable_bench.registry._steps import still
    from unlearnable_bench.registry._surrogates import surrogate, through

    run = Crafting(context.clean, context.job)
    net = surrogate(run, network, sees="centred")
    net.load_state_dict(weights)
    total = 0.0
    with still(net):
        for rows in _batches(run, plan, batches):
            x, y = run.batch(rows)
            delta = plan.minimize(run, net, x, y)
            before, after = plan.views(x, run.device_generator)
            v = before((x + delta).clamp(0, 1))
            v = plan.noise_adversary(through(net, after), v, y, run.device_generator)
            with torch.no_grad():
                total += float(F.cross_entropy(net(after(v)).float(), y))
    return total / batches


def refitted_model(context: Context, network: str, levels: Tensor, plan: "Alternation", batches: int) -> float:
    """Return the mean loss of a new surrogate while it learns on images with this noise, under the adversary."""
    from unlearnable_bench.registry._batch_noise import robust_step
    from unlearnable_bench.registry._crafting import Crafting
    from unlearnable_bench.registry._surrogates import descent_of, surrogate

    run = Crafting(context.clean, context.job)
    net = surrogate(run, network, sees="centred")
    optimizer = descent_of(net, plan.lr, plan.weight_decay)
    total = 0.0
    for step, rows in enumerate(_batches(run, plan, batches)):
        x, y = run.batch(rows)
        total += robust_step(run, net, optimizer, plan, x, y, levels[rows].to(run.device) / 255, step)
    return total / batches


def _batches(run: "Crafting", plan: "Alternation", count: int) -> Iterator[Tensor]:
    """Yield the rows of so many whole batches, epoch after epoch."""
    size = len(run.clean)
    batch, order = min(plan.batch, size), torch.empty(0, dtype=torch.long)
    for _ in range(count):
        if len(order) < batch:
            order = torch.randperm(size, generator=run.job.generator)
        rows, order = order[:batch], order[batch:]
        yield rows
