"""Weights for victims that fine-tune: `pretrain`."""

from __future__ import annotations

from typing import Annotated

import typer

from unlearnable_bench.benchmark.commands.common import Device, Json, print_json


def pretrain(
    out: Annotated[str, typer.Option(metavar="NAME", help="Name of the new folder in $BENCH_DATA/weights.")],
    dataset: Annotated[str, typer.Option(help="Spec of the clean images to train on.")] = "digits",
    architecture: Annotated[str, typer.Option(help="Spec of the network.")] = "resnet9",
    protocol: Annotated[str, typer.Option(help="Spec of the recipe.")] = "fast",
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a network on clean images, keep its weights, and print the spec by which victims begin with them.

    Example: `bench pretrain --dataset cifar100 --architecture resnet9 --out resnet9-cifar100`
    """
    from unlearnable_bench.benchmark import schedule
    from unlearnable_bench.registry import ARCHITECTURES, DATASETS, PROTOCOLS, MissingDataError, child, data

    parts = [
        catalog.resolve(spec)[0]
        for catalog, spec in ((DATASETS, dataset), (ARCHITECTURES, architecture), (PROTOCOLS, protocol))
    ]
    if sentence := data.missing(parts[0]):
        raise MissingDataError(sentence)
    chosen = schedule.choose_device(device)
    child.decode(parts[:1])
    from unlearnable_bench.benchmark.display import Display
    from unlearnable_bench.benchmark.pretrain import Pretraining
    from unlearnable_bench.benchmark.train import TrainingProgress
    from unlearnable_bench.benchmark.work import Meter

    made = Pretraining(parts[0], parts[1], parts[2], seed, out)
    made.check()
    with Display(0, as_json) as display:
        meter = Meter({"stage": "train", "label": f"{parts[1].text} on {parts[0].text}"}, display)

        def report(now: TrainingProgress) -> None:
            meter(now.step, now.steps, judged=now.judged)

        accuracy = made.run(chosen, report)
    if as_json:
        return print_json({"spec": made.spec, "path": str(made.folder), "test_acc": accuracy})
    print(f"{made.spec}\npath      {made.folder}\naccuracy  {100 * accuracy:.1f} % on the test set of {parts[0].text}")
