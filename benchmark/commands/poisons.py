"""Poisons and their store: `craft`, `poisons ls`, `verify`, `tsne`, `prune`, `import`, `convert`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.benchmark.commands.common import (
    Device,
    Json,
    Several,
    Where,
    print_json,
    print_rows,
    usage,
    workspace_of,
)

AttackSpec = Annotated[str, typer.Argument(metavar="SPEC", help="Spec of the attack.")]


def craft(
    spec: AttackSpec,
    dataset: Annotated[str, typer.Option(help="Spec of the dataset.")] = "digits",
    set_: Annotated[
        Several, typer.Option("--set", help="key=value: a parameter of the attack, or of the first attack of a chain.")
    ] = None,
    ratio: Annotated[float, typer.Option(help="Fraction of the training images that is poisoned.", min=0, max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the attack.")] = 0,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Craft a poison, unless the store has it; print its path, checksum, spent budget and seconds.

    Examples: `bench craft lsp --dataset digits --set epsilon=2.0`, `bench craft 'lsp+swap(mode=inter)'`
    """
    from unlearnable_bench.benchmark import schedule
    from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe
    from unlearnable_bench.registry import ATTACKS, DATASETS, MissingDataError, child, data
    from unlearnable_bench.registry.spec import parse, write_spec

    named, *tools = parse(spec)
    given = dict(named.given) | {
        key: value for pair in set_ or [] for key, value in parse(f"{named.name}({pair})")[0].given.items()
    }
    attack = ATTACKS.resolve("+".join([write_spec(named.name, given), *(write_spec(tool.name, tool.given) for tool in tools)]))
    part = DATASETS.resolve(dataset)[0]
    chosen = schedule.choose_device(device)
    space = workspace_of(workspace)
    space.writable()
    recipe = PoisonRecipe(part, attack, seed)
    needed = list({one.dataset.text: one.dataset for one in recipe.family}.values())
    for one in needed:
        if sentence := data.missing(one):
            raise MissingDataError(sentence)
    child.decode(needed)
    from unlearnable_bench.benchmark.display import Display
    from unlearnable_bench.benchmark.work import Meter
    from unlearnable_bench.poisons.store import Store

    with Display(0, as_json) as display:
        meter = Meter({"stage": "craft", "label": recipe.text}, display)
        store, loaded = Store(space.poisons, chosen, meter), data.load(part)
        kept = store.poison(recipe, loaded)
    budget = kept.manifest["budget"]
    if ratio < 1:
        kept = store.purified(PurifiedRecipe(recipe, ratio, "all", (), seed), loaded)
    answer = {
        "attack": recipe.text,
        "path": str(kept.path),
        "checksum": kept.checksum,
        "seconds": kept.manifest["seconds"],
        "cached": kept.cached,
        "budget": budget,
    }
    if as_json:
        return print_json(answer)
    how = "found" if kept.cached else f"crafted in {kept.manifest['seconds']:.1f} s"
    allowed = "no bound" if budget["allowed"] is None else f"allowed {budget['allowed']:.4g}"
    print(f"{recipe.text} on {part.text}: {how}\npath      {kept.path}\nchecksum  {kept.checksum}")
    print(f"budget    {budget['norm']}: spent {budget['spent']:.4g}, {allowed} (pixel units)")


def ls(workspace: Where = None, as_json: Json = False) -> None:
    """List the sets in the store.

    Example: `bench poisons ls`
    """
    from unlearnable_bench.poisons import inventory

    rows = inventory.list_sets(workspace_of(workspace).poisons)
    if as_json:
        return print_json(rows)
    shown = [
        [r["attack"], r["dataset"], r["defense"], r["checksum"][:12] or r["state"], f"{r['bytes'] / 1e6:.1f} MB"] for r in rows
    ]
    print_rows(["attack", "dataset", "defense", "checksum", "size"], shown)


def verify(workspace: Where = None, as_json: Json = False) -> None:
    """Read every set and compare it with its manifest.

    Example: `bench poisons verify`
    """
    from unlearnable_bench.poisons import inventory

    rows = inventory.verify_sets(workspace_of(workspace).poisons)
    bad = [row for row in rows if row["error"]]
    if as_json:
        print_json(rows)
    else:
        for row in bad:
            print(row["error"])
        print(f"{len(rows) - len(bad)} of {len(rows)} sets are as their manifests say")
    if bad:
        raise typer.Exit(1)


def tsne(
    specs: Annotated[list[str], typer.Argument(metavar="SPEC", help="Specs of attacks, one panel each.")],
    dataset: Annotated[str, typer.Option(help="Spec of the dataset.")] = "digits",
    output: Annotated[Path, typer.Option(help="File to write, .svg or .html.")] = Path("perturbations.svg"),
    images: Annotated[int, typer.Option(help="Number of images to show, equally many from each class.", min=4)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the attacks, of the sample and of t-SNE.")] = 0,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Draw the perturbations of poisons as points of a plane (t-SNE), to see whether classes lie apart.

    Poisons that the store lacks are crafted. `bench report` shows the drawing on a page of its own. CSD is the class-wise
    separability discriminant of the paper "Transferable Unlearnable Examples": lower means farther apart.

    Example: `bench poisons tsne lsp ops 'random-noise(kind=sample)' --dataset digits --output perturbations.svg`
    """
    if output.suffix not in (".svg", ".html"):
        raise usage(f"--output {output}: expected a name that ends in .svg or .html")
    from unlearnable_bench.benchmark import embed, schedule
    from unlearnable_bench.leaderboard.formats import figures, scatter
    from unlearnable_bench.leaderboard.formats import text as formats
    from unlearnable_bench.leaderboard.tables.table import slugged

    space = workspace_of(workspace)
    space.writable()
    found, names = embed.embed_poisons(specs, dataset, space, schedule.choose_device(device), images, seed)
    panels = [scatter.Panel(e.attack, e.points.tolist(), e.classes.tolist(), f"CSD {e.csd:.2f}") for e in found]
    title = f"Perturbations of poisons of {dataset}"
    lead = f"t-SNE of the perturbations of {len(found[0].points)} images, colored by class; CSD is low where classes lie apart."
    plane = scatter.ScatterPlot(title, lead, names, panels)
    drawing = plane.drawing()
    text = scatter.scatter_page(drawing, title, lead) if output.suffix == ".html" else figures.standalone(drawing)
    formats.write_tables([], output.parent, (), more={output.name: text})
    name = slugged(".".join([dataset, *(e.attack for e in found)]))
    formats.write_tables([], space.figures, (), more={f"{name}.json": plane.text()})
    if as_json:
        return print_json(
            {"path": str(output), "panels": [{"attack": e.attack, "checksum": e.checksum, "csd": e.csd} for e in found]}
        )
    print(output)


def prune(
    all_: Annotated[bool, typer.Option("--all", help="Remove all sets.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would be removed, remove nothing.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Remove sets that are damaged, unfinished, or made by an older version of their attack or defense.

    Example: `bench poisons prune --dry-run`
    """
    from unlearnable_bench.poisons import inventory

    rows = inventory.prune(workspace_of(workspace).poisons, everything=all_, dry_run=dry_run)
    if as_json:
        return print_json(rows)
    for row in rows:
        print(f"{'would remove' if dry_run else 'removed'} {row['path']}: {row['why']}, {row['bytes'] / 1e6:.1f} MB")
    print(f"{len(rows)} sets, {sum(row['bytes'] for row in rows) / 1e6:.1f} MB")


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A .npy, .npz, .pt, .pth or .pkl file, a folder of 0.png, 1.png, ... or of .npy parts, or a zip of PNG files.",
        ),
    ],
    dataset: Annotated[str, typer.Option(help="Dataset that it poisons.")],
    name: Annotated[str, typer.Option(help="Name of the poison, one word; default: the name of the file.")] = "",
    units: Annotated[
        str,
        typer.Option(
            help="auto, images, or units of noise: pixels (0..1), levels (0..255), radius, normalised (by standard deviation)."
        ),
    ] = "auto",
    order: Annotated[
        str,
        typer.Option(
            help="index: row i is image i; class: by rank within its class; match: by similarity, also for a subset of images."
        ),
    ] = "index",
    labels: Annotated[str, typer.Option(help=".npy file with the labels of the rows.")] = "",
    negative: Annotated[str, typer.Option(help="Whether to keep or drop negative noise.")] = "keep",
    rounding: Annotated[str, typer.Option(help="Rounding to 8 bits: nearest or down.")] = "nearest",
    norm: Annotated[
        str, typer.Option(help="Norm of the bound that it must keep: linf, l2 or l0; none: measure without a bound.")
    ] = "none",
    epsilon: Annotated[str, typer.Option(help="Radius in this norm, in pixel units, such as 8/255.")] = "0",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Import a published poison into the store, and print the spec by which cells use it.

    Nothing in the file is unpickled or executed. The budget is measured; the manifest has file name, sha256 and options.

    Example: `bench poisons import perturbation.pt --dataset cifar10 --norm linf --epsilon 8/255`
    """
    from unlearnable_bench.registry import DATASETS, EntryError, MissingDataError, data
    from unlearnable_bench.registry.spec import read_value

    radius = read_value(epsilon)
    if isinstance(radius, str | bool):
        raise EntryError(f"--epsilon {epsilon}: expected a number, such as 8/255")
    part = DATASETS.resolve(dataset)[0]
    space = workspace_of(workspace)
    space.writable()
    if sentence := data.missing(part):
        raise MissingDataError(sentence)
    from unlearnable_bench.poisons.imports import import_poison
    from unlearnable_bench.poisons.options import ImportOptions
    from unlearnable_bench.poisons.store import Store

    options = ImportOptions(units, order, negative, rounding, norm, float(radius))
    kept = import_poison(Store(space.poisons), path, part, data.load(part), options, name, labels)
    answer = {
        "attack": kept.manifest["text"],
        "path": str(kept.path),
        "checksum": kept.checksum,
        "cached": kept.cached,
        "budget": kept.manifest["budget"],
        "source": kept.manifest["source"],
    }
    if as_json:
        return print_json(answer)
    budget, source = answer["budget"], answer["source"]
    from unlearnable_bench.results.submission import one_line

    file = one_line(source["file"])
    print(f"{file}: {source['format']}, read as {source['units']}, sha256 {source['sha256'][:12]}")
    print(f"attack    {answer['attack']}\npath      {kept.path}\nchecksum  {kept.checksum}")
    print(f"covers    {source.get('covers', len(kept.images)):,} of {len(kept.images):,} images")
    print(f"budget    {budget['norm']}: spent {budget['spent']:.4g} (pixel units)")


def convert(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A pickle, as many authors publish their poisons.")],
    to: Annotated[Path, typer.Option(help=".npz file to write; it must not exist.")],
    as_json: Json = False,
) -> None:
    """Write the arrays of a pickle to an .npz file. Nothing in the pickle is executed.

    Arrays of numpy, tensors of torch, lists of them or of (image, label), and dictionaries of them are read; a pickle that
    holds anything else is refused with the name of what it wants to call. `bench poisons import` reads the same files.

    Example: `bench poisons convert perturbation.pkl --to perturbation.npz`
    """
    if to.suffix != ".npz":
        raise usage(f"--to {to}: expected a name that ends in .npz")
    if to.exists():
        raise usage(f"{to} exists; choose another name")
    from unlearnable_bench.poisons.exports import write_npz
    from unlearnable_bench.poisons.pickles import read_pickle
    from unlearnable_bench.registry import EntryError

    if not path.is_file():
        raise EntryError(f"there is no file {path}")
    contents = read_pickle(path, 2 * path.stat().st_size)
    contents.check(path)
    write_npz(contents, to)
    arrays = {"images": contents.array} | ({} if contents.labels is None else {"labels": contents.labels})
    shown = {name: {"shape": list(array.shape), "type": str(array.dtype)} for name, array in arrays.items()}
    if as_json:
        return print_json({"path": str(to), "format": contents.format, "arrays": shown})
    for name, one in shown.items():
        print(f"{name:9} {one['type']} {tuple(one['shape'])}")
    print(f"path      {to}")


def export(
    spec: AttackSpec,
    to: Annotated[Path, typer.Option(help="Folder or file to write; it must not exist.")],
    dataset: Annotated[str, typer.Option(help="Spec of the dataset.")] = "digits",
    format_: Annotated[str, typer.Option("--format", help="png (a folder with data/<index>.png) or npz (one file).")] = "png",
    seed: Annotated[int, typer.Option(help="Seed of the attack.")] = 0,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Write a poison with labels and manifest to a folder or a file; craft it if the store lacks it.

    Example: `bench poisons export lsp --dataset digits --to lsp-digits`
    """
    from unlearnable_bench.benchmark import schedule
    from unlearnable_bench.poisons.recipe import PoisonRecipe
    from unlearnable_bench.registry import ATTACKS, DATASETS, MissingDataError, data

    part = DATASETS.resolve(dataset)[0]
    recipe = PoisonRecipe(part, ATTACKS.resolve(spec), seed)
    chosen = schedule.choose_device(device)
    space = workspace_of(workspace)
    for one in recipe.family:
        if sentence := data.missing(one.dataset):
            raise MissingDataError(sentence)
    from unlearnable_bench.poisons.exports import hand_out, may_write
    from unlearnable_bench.poisons.store import Store

    loaded = data.load(part)
    may_write(to, format_)
    kept = Store(space.poisons, chosen).poison(recipe, loaded)
    hand_out(kept, loaded.train, to, format_)
    answer = {"attack": recipe.text, "path": str(to), "format": format_, "checksum": kept.checksum, "images": len(kept.labels)}
    if as_json:
        return print_json(answer)
    print(f"{recipe.text} on {part.text}: {answer['images']} images, {format_}\npath      {to}\nchecksum  {kept.checksum}")
