"""The perturbations that noise meets while it is made, and those that it meets later, beside one another."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ANALYSES, DEFENSES, Analysis, Context, EntryError, NotApplicable
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE
from unlearnable_bench.registry.analyses.correlation import made_by, stops


@ANALYSES.register("adversaries")
@dataclass(frozen=True)
class Adversaries(Analysis):
    """How alike perturbations are that are added to noisy images, while the noise is made and while a victim is trained.

    Figure 7 of the paper. Three sets, of the same images: `making`, what the noise step of the cell's attack (`rem`, `sem`)
    adds after the last step of a repeated making; `random`, uniform draws of the same radius on the same views, as the noise
    step of `sem` has; `victim`, what the adversary of the cell's victim (defense `at`, linf) adds to the poisoned images after
    its last epoch. Figures: `alike_making`, `alike_random` and `alike_victim`, the mean cosine between the perturbations of
    two images of a set, 1 where all are the same. Curves: a t-SNE of all three, `making_x`, `making_y` and so on. The
    paper has UMAP, and does not say how many perturbations of which step it shows. The first two are in the frame of a random
    crop and mirror, as the attack's noise step has them; the third is on whole images.
    """

    per_class: int = 30  # images of each class

    display_name = "Likeness of adversarial perturbations"
    label = "Adversaries"
    paper = STABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "epochs")
    small: ClassVar[dict[str, Any]] = {"per_class": 4}

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise EntryError(f"analysis adversaries: per_class={self.per_class}; expected 1 or more")

    def measure(self, context: Context) -> dict[str, float]:
        from unlearnable_bench.registry._staged import embedded, watched

        training: Any = next((part for part in context.defenses if isinstance(part, DEFENSES["at"])), None)
        if training is None or training.norm != "linf" or not training.epsilon * training.steps:
            raise NotApplicable("its victim has no adversary; the defense at has one, in linf")
        step = training.step_size or 2 * training.epsilon / training.steps
        rows = watched(context.clean, self.per_class, torch.Generator().manual_seed(0))
        making, random = self._while_made(context, rows)
        victim = self._later(context, Adversary("pgd", training.epsilon, training.steps, step), rows)
        sets = {"making": making, "random": random, "victim": victim}
        points = embedded(torch.cat(list(sets.values())))
        for name, part in zip(sets, points.split(len(rows)), strict=True):
            for axis, column in zip("xy", part.T, strict=True):
                context.curves[f"{name}_{axis}"] = [round(float(value), 3) for value in column]
        return {f"alike_{name}": alike(values) for name, values in sets.items()}

    def _while_made(self, context: Context, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the noise step of the attack adds, and uniform noise on the same views, both (n, D)."""
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._steps import still
        from unlearnable_bench.registry._surrogates import surrogate, through

        attack, plan = made_by(context)
        *_, (_, weights, _) = stops(context, attack.surrogate, plan, plan.train_steps)
        run = Crafting(context.clean, context.job)
        net = surrogate(run, attack.surrogate, sees="centred")
        net.load_state_dict(weights)
        uniform = Adversary("uniform", plan.noise_adversary.radius or plan.weight_adversary.radius)
        found: list[list[Tensor]] = [[], []]
        with still(net):
            for part in rows.split(plan.batch):
                x, y = run.batch(part)
                delta = plan.minimize(run, net, x, y)
                before, after = plan.views(x, run.device_generator)
                v = before((x + delta).clamp(0, 1))
                for several, adversary in zip(found, (plan.noise_adversary, uniform), strict=True):
                    several.append((adversary(through(net, after), v, y, run.device_generator) - v).flatten(1).cpu())
        return torch.cat(found[0]), torch.cat(found[1])

    def _later(self, context: Context, adversary: Adversary, rows: Tensor) -> Tensor:
        device, found = context.job.device, []
        generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,), generator=context.job.generator)))
        assert context.victim is not None, "an analysis that needs epochs has a victim"
        with context.victim.still() as net:
            for part in rows.split(128):
                x = context.poison.pixels(part, device)
                found.append((adversary(net, x, context.poison.labels[part].to(device), generator) - x).flatten(1).cpu())
        return torch.cat(found)


def alike(values: Tensor) -> float:
    """Return the mean cosine between two rows of (n, D), over all pairs; 0 with fewer than two."""
    if len(values) < 2:
        return 0.0
    unit = F.normalize(values.double(), dim=1)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (len(unit) * (len(unit) - 1)))
