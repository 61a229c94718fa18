"""The command `bench`: one short function per subcommand; the work is elsewhere. Heavy imports stay inside the functions."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from benchmark.driver import Options, Outcome
    from benchmark.grid import Plan
    from registry.catalog import Part
    from results import Record, Records, Table, Workspace
    from results.papers import Grid as Printed
    from results.submission import Taken

VERBOSE = ("-v", "--verbose")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Measure availability poisons (unlearnable examples) against the defenses that learn from them anyway. "
    "Begin with `bench run --grid quick`. -v behind any command shows tracebacks.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: which are there, download, check.")
poisons_app = typer.Typer(no_args_is_help=True, help="The store of poisons and purified sets.")
app.add_typer(data_app, name="data")
app.add_typer(poisons_app, name="poisons")

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Where = Annotated[Path | None, typer.Option("--workspace", help="Folder to read and write; else $BENCH_WORKSPACE, else here.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Several = list[str] | None


def _axis(text: str) -> Any:  # typer's options have no common type
    return typer.Option(help=text + " Several by commas or by repeating the option.")


AttackAxis = Annotated[Several, _axis("Attacks.")]
DefenseAxis = Annotated[Several, _axis("Defenses.")]
DatasetAxis = Annotated[Several, _axis("Data sets.")]
ArchitectureAxis = Annotated[Several, _axis("Architectures.")]
ProtocolAxis = Annotated[Several, _axis("Protocols.")]
SeedAxis = Annotated[Several, _axis("Seeds.")]
RatioAxis = Annotated[Several, _axis("Fractions of poisoned images, 0..1.")]
PartAxis = Annotated[Several, _axis("What to train on at a ratio: all images, or the clean rest alone.")]
MeasureAxis = Annotated[Several, _axis("What is measured: accuracy, or analyses.")]
Executor = Annotated[str, typer.Option(help="local, inline, or slurm, which submits jobs and returns.")]
PerDevice = Annotated[int, typer.Option(help="Cells at once on each GPU.", min=1)]
PerJob = Annotated[int | None, typer.Option(help="Cells that one job of the cluster runs one after the other.", min=1)]
ProfilePath = Annotated[Path | None, typer.Option(help="Description of the cluster, a TOML file; see docs/cluster.md.")]
Wait = Annotated[bool, typer.Option(help="Wait for the jobs of the cluster, and submit again what was lost.")]
Grid = Annotated[str | None, typer.Option(help="A grid that comes with the program, or a table file (.toml).")]


def main() -> NoReturn:
    """Run the command and turn errors into one sentence and an exit code."""
    verbose = any(flag in sys.argv[1:] for flag in VERBOSE)
    arguments = [argument for argument in sys.argv[1:] if argument not in VERBOSE]
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app(arguments)
    except BrokenPipeError:  # the reader of our output, `head` for one, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:  # before a command began
        _stop("interrupted", 130)
    except Exception as error:
        code = _exit_code(error)
        if verbose or code is None:
            raise
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        _stop(text, code)
    sys.exit(0)


def _exit_code(error: Exception) -> int | None:
    """2: wrong use or input; 1: what was examined failed; 3: cells failed; 130: interrupted; None: an error of our own."""
    from registry import EntryError
    from results import FileError

    if isinstance(error, EntryError | FileError | OSError):
        return 2
    name = type(error).__name__
    return {
        "CraftError": 1,
        "BudgetError": 1,
        "DamagedError": 1,
        "ExecutorError": 3,
        "SlurmError": 2,
        "InterruptedRunError": 130,
    }.get(name)


def _stop(sentence: str, code: int) -> NoReturn:
    print(f"bench: {sentence}", file=sys.stderr)
    sys.exit(code)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _wishes(values: Several) -> list[str]:
    from registry.item import split

    return [wish for value in values or [] for wish in split(value, ",") if wish]


def _selectors(**axes: Several) -> dict[str, list[str]]:
    """What the selectors of a command ask for, by axis."""
    return {axis: _wishes(values) for axis, values in axes.items()}


# Looking around


@app.command("list")
def list_(kind: str, pattern: Annotated[str, typer.Argument()] = "*", workspace: Where = None, as_json: Json = False) -> None:
    """List entries: name, one line, paper, where it comes from; of grids how many cells there are, can be run, are done.

    KIND is attacks, defenses, architectures, datasets, protocols, analyses or grids; PATTERN is a glob. GPU-hours are those of
    training what can be run and is not done: from records of like cells on a GPU, else from multiply-adds.

    Examples: `bench list attacks 'l*'`, `bench list grids 'd-vae/*'`
    """
    from benchmark import listing

    rows = listing.listing(kind, pattern, _records(_workspace(workspace)) if kind == "grids" else None)
    if as_json:
        return _print_json(rows)
    if kind == "grids":
        hours = ["unknown" if r["gpu_hours"] is None else f"{r['gpu_hours']:.1f}" for r in rows]
        counts = [[str(r[key]) for key in ("cells", "runnable", "done")] for r in rows]
        return _table(
            ["name", "cells", "runnable", "done", "GPU-hours left", "summary"],
            [[r["name"], *count, hour, r["summary"]] for r, count, hour in zip(rows, counts, hours, strict=True)],
        )
    _table(
        ["name", "summary", "paper", "source"], [[r["name"], r["summary"] or r["error"], r["paper"], r["source"]] for r in rows]
    )
    for row in rows:
        if row["error"]:
            print(f"{row['name']} of {row['source']} cannot be used: {row['error']}", file=sys.stderr)


@app.command()
def show(entry: str, as_json: Json = False) -> None:
    """Show an entry: what it does, parameters with defaults and units, paper, budget.

    A bare name shows every kind that has it, `attack:none` one of them.

    Example: `bench show lsp`
    """
    from benchmark import listing

    found = [listing.details(e) for e in listing.named(entry)]
    if as_json:
        return _print_json(found)
    for one in found:
        print(listing.page(one))


@app.command()
def doctor(
    slurm: Annotated[bool, typer.Option("--slurm", help="Say which settings and limits of the cluster matter.")] = False,
    profile: ProfilePath = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Say what is installed, which devices and data there are, which plug-ins fail, which records were changed by hand.

    Examples: `bench doctor`, `bench doctor --slurm --profile site.toml`
    """
    from benchmark import listing

    space = _workspace(workspace)
    checks = listing.cluster(space, profile) if slurm else listing.doctor(_records(space))
    if as_json:
        return _print_json({"checks": checks})
    for check in checks:
        print(f"{'ok ' if check['ok'] else 'BAD'}  {check['name']}: {check['detail']}")


@app.command()
def check(entry: str, as_json: Json = False) -> None:
    """Run the conformance tests on one entry, also a third-party one, in under a minute on a CPU.

    Example: `bench check attack:lsp`
    """
    from benchmark import conformance, listing

    results = [finding for e in listing.named(entry) for finding in conformance.check(e)]
    if as_json:
        _print_json({"checks": results})
    else:
        for finding in results:
            print(f"{'ok ' if finding['ok'] else 'BAD'}  {finding['entry']}: {finding['name']}  {finding['detail']}".rstrip())
    if not all(finding["ok"] for finding in results):
        raise typer.Exit(1)


# Data sets


@data_app.command("ls")
def data_ls(as_json: Json = False) -> None:
    """List data sets and whether they are on this machine.

    Example: `bench data ls`
    """
    from registry import DATASETS, data

    rows: list[dict[str, Any]] = []
    for entry in DATASETS.rows:
        if entry.name != "folder" and not entry.error:
            part = DATASETS.resolve(entry.name)[0]
            sentence = data.missing(part)
            needs = entry.facts.get("folder", "")
            path = str(data.root_of(part)) if needs else "comes with the program"
            rows.append({"name": entry.name, "there": not sentence, "path": path, "summary": entry.summary})
    if as_json:
        return _print_json(rows)
    _table(
        ["name", "there", "path", "summary"],
        [[r["name"], "yes" if r["there"] else "no", r["path"], r["summary"]] for r in rows],
    )


@data_app.command("get")
def data_get(name: str, as_json: Json = False) -> None:
    """Download a data set and check its checksums. The only command that uses the network.

    Example: `bench data get cifar10`
    """
    from registry import DATASETS, MissingDataError, data

    part = DATASETS.resolve(name)[0]
    try:
        row = _verified(part)
    except MissingDataError:
        download, root = getattr(part.entry.load(), "download", None), data.root_of(part)
        if download is None:
            raise
        root.parent.mkdir(parents=True, exist_ok=True)
        try:
            download(root)
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise _usage(f"cannot download data set {name} to {root}: {reason}; try again, or put its files there") from None
        row = _verified(part)
    _print_data([row], as_json)


@data_app.command("verify")
def data_verify(item: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """Read data sets anew from their files and compare with what was decoded before.

    Example: `bench data verify digits`
    """
    from registry import DATASETS, data

    names = [item] if item else [e.name for e in DATASETS.rows if e.name != "folder" and not e.error]
    parts = [DATASETS.resolve(name)[0] for name in names]
    rows = [_verified(part) for part in parts if item or not data.missing(part)]
    _print_data(rows, as_json)
    if any(row["changed"] for row in rows):
        raise typer.Exit(1)


def _verified(part: Part) -> dict[str, Any]:
    from registry import data

    before = data.decoded_fingerprint(part)
    data.forget(part)
    loaded = data.load(part)
    row = {"name": part.name, "train": len(loaded.train), "test": len(loaded.test), "classes": loaded.train.num_classes}
    after = data.decoded_fingerprint(part)
    return row | {"fingerprint": after, "changed": before not in ("", after)}


def _print_data(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return _print_json(rows)
    for row in rows:
        state = "CHANGED since it was decoded" if row["changed"] else "ok"
        size = f"{row['train']} training and {row['test']} test images, {row['classes']} classes"
        print(f"{row['name']}: {state}, {size}, fingerprint {row['fingerprint'][:12]}")


# Poisons


@app.command()
def craft(
    item: str,
    dataset: Annotated[str, typer.Option(help="Data set item.")] = "digits",
    set_: Annotated[
        Several, typer.Option("--set", help="key=value, a parameter of the attack; in a chain, of its first.")
    ] = None,
    ratio: Annotated[float, typer.Option(help="Fraction of poisoned images.", min=0, max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the attack.")] = 0,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Craft (or find) a poison; print path, checksum, budget spent and seconds.

    Examples: `bench craft lsp --dataset digits --set epsilon=2.0`, `bench craft 'lsp+swap(mode=inter)'`
    """
    from benchmark import schedule
    from poisons.recipe import PoisonRecipe, PurifiedRecipe
    from registry import ATTACKS, DATASETS, MissingDataError, child, data
    from registry.item import parse, write

    named, *tools = parse(item)
    given = dict(named.given) | {
        key: value for pair in set_ or [] for key, value in parse(f"{named.name}({pair})")[0].given.items()
    }
    attack = ATTACKS.resolve("+".join([write(named.name, given), *(write(tool.name, tool.given) for tool in tools)]))
    part = DATASETS.resolve(dataset)[0]
    chosen = schedule.choose_device(device)
    space = _workspace(workspace)
    space.writable()
    recipe = PoisonRecipe(part, attack, seed)
    needed = list({one.dataset.text: one.dataset for one in recipe.family}.values())
    for one in needed:
        if sentence := data.missing(one):
            raise MissingDataError(sentence)
    child.decode(needed)
    from poisons.store import Store

    store, loaded = Store(space.poisons, chosen), data.load(part)
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
        return _print_json(answer)
    how = "found" if kept.cached else f"crafted in {kept.manifest['seconds']:.1f} s"
    allowed = "no bound" if budget["allowed"] is None else f"allowed {budget['allowed']:.4g}"
    print(f"{recipe.text} on {part.text}: {how}\npath      {kept.path}\nchecksum  {kept.checksum}")
    print(f"budget    {budget['norm']}: spent {budget['spent']:.4g}, {allowed} (pixel units)")


@poisons_app.command("ls")
def poisons_ls(workspace: Where = None, as_json: Json = False) -> None:
    """List the sets in the store.

    Example: `bench poisons ls`
    """
    from poisons import shelf

    rows = shelf.stored(_workspace(workspace).poisons)
    if as_json:
        return _print_json(rows)
    shown = [
        [r["attack"], r["dataset"], r["defense"], r["checksum"][:12] or r["state"], f"{r['bytes'] / 1e6:.1f} MB"] for r in rows
    ]
    _table(["attack", "dataset", "defense", "checksum", "size"], shown)


@poisons_app.command("verify")
def poisons_verify(workspace: Where = None, as_json: Json = False) -> None:
    """Read every set and compare it with its manifest.

    Example: `bench poisons verify`
    """
    from poisons import shelf

    rows = shelf.verified(_workspace(workspace).poisons)
    bad = [row for row in rows if row["error"]]
    if as_json:
        _print_json(rows)
    else:
        for row in bad:
            print(row["error"])
        print(f"{len(rows) - len(bad)} of {len(rows)} sets are as their manifests say")
    if bad:
        raise typer.Exit(1)


@poisons_app.command("tsne")
def poisons_tsne(
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Attacks, one panel each.")],
    dataset: Annotated[str, typer.Option(help="Data set item.")] = "digits",
    output: Annotated[Path, typer.Option(help="A .svg file, or a page, .html.")] = Path("perturbations.svg"),
    images: Annotated[int, typer.Option(help="Images whose perturbations are shown, of all classes alike.", min=4)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the attacks, of the sample and of t-SNE.")] = 0,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Draw the perturbations of poisons side by side, as points of a plane (t-SNE): do classes lie apart?

    Poisons are crafted, or found; `bench report` shows what was drawn on a page of its own. CSD is the discriminant of
    transferable unlearnable examples: the lower, the farther apart.

    Example: `bench poisons tsne lsp ops 'random-noise(kind=sample)' --dataset digits --output perturbations.svg`
    """
    if output.suffix not in (".svg", ".html"):
        raise _usage(f"--output {output}: expected a name that ends in .svg or .html")
    from benchmark import embed, schedule
    from leaderboard import figures, render, scatter, table

    space = _workspace(workspace)
    space.writable()
    found, names = embed.poisons(items, dataset, space, schedule.choose_device(device), images, seed)
    panels = [scatter.Panel(e.attack, e.points.tolist(), e.classes.tolist(), f"CSD {e.csd:.2f}") for e in found]
    title = f"Perturbations of poisons of {dataset}"
    lead = (
        f"t-SNE of the perturbations of {len(found[0].points)} images, coloured by class; CSD is low where classes lie apart."
    )
    plane = scatter.Plane(title, lead, names, panels)
    drawing = plane.drawing()
    text = scatter.page(drawing, title, lead) if output.suffix == ".html" else figures.standalone(drawing)
    render.write([], output.parent, (), more={output.name: text})
    name = table.slugged(".".join([dataset, *(e.attack for e in found)]))
    render.write([], space.figures, (), more={f"{name}.json": plane.text()})
    if as_json:
        return _print_json(
            {"path": str(output), "panels": [{"attack": e.attack, "checksum": e.checksum, "csd": e.csd} for e in found]}
        )
    print(output)


@poisons_app.command("prune")
def poisons_prune(
    all_: Annotated[bool, typer.Option("--all", help="Remove every set, whole ones too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be removed.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Remove sets that nobody will use again: damaged, half made, or of an older version of their attack or defense.

    Example: `bench poisons prune --dry-run`
    """
    from poisons import shelf

    rows = shelf.prune(_workspace(workspace).poisons, everything=all_, dry_run=dry_run)
    if as_json:
        return _print_json(rows)
    for row in rows:
        print(f"{'would remove' if dry_run else 'removed'} {row['path']}: {row['why']}, {row['bytes'] / 1e6:.1f} MB")
    print(f"{len(rows)} sets, {sum(row['bytes'] for row in rows) / 1e6:.1f} MB")


@poisons_app.command("import")
def poisons_import(
    path: Annotated[
        Path,
        typer.Argument(help="A .npy, .npz, .pt or .pth file, a folder of 0.png, 1.png, ... or of .npy parts, or a zip of PNG."),
    ],
    dataset: Annotated[str, typer.Option(help="Data set that it poisons.")],
    name: Annotated[str, typer.Option(help="What it is, one word; else the file's name.")] = "",
    units: Annotated[
        str,
        typer.Option(help="auto, images, or noise in pixels (0..1), levels (0..255), radius, normalised (by deviations)."),
    ] = "auto",
    order: Annotated[
        str, typer.Option(help="index: row i is image i; class: by rank in its class; match: by likeness, also of a part.")
    ] = "index",
    labels: Annotated[str, typer.Option(help="Labels of the rows, a .npy file.")] = "",
    negative: Annotated[str, typer.Option(help="keep negative noise, or drop it.")] = "keep",
    rounding: Annotated[str, typer.Option(help="to 8 bits: nearest or down.")] = "nearest",
    norm: Annotated[str, typer.Option(help="linf, l2, l0: the bound that it must keep; none: measured only.")] = "none",
    epsilon: Annotated[str, typer.Option(help="Radius in the norm, pixel units, such as 8/255.")] = "0",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Take a poison that its authors published into the store, and print the item by which cells use it.

    Nothing in the file is unpickled or executed. The budget is measured; file name, sha256 and options are in the manifest.

    Example: `bench poisons import perturbation.pt --dataset cifar10 --norm linf --epsilon 8/255`
    """
    from registry import DATASETS, EntryError, MissingDataError, data
    from registry.item import value

    radius = value(epsilon)
    if isinstance(radius, str | bool):
        raise EntryError(f"--epsilon {epsilon}: expected a number, such as 8/255")
    part = DATASETS.resolve(dataset)[0]
    space = _workspace(workspace)
    space.writable()
    if sentence := data.missing(part):
        raise MissingDataError(sentence)
    from poisons import exchange
    from poisons.store import Store

    options = exchange.Options(units, order, negative, rounding, norm, float(radius))
    kept = exchange.take_in(Store(space.poisons), path, part, data.load(part), options, name, labels)
    answer = {
        "attack": kept.manifest["text"],
        "path": str(kept.path),
        "checksum": kept.checksum,
        "cached": kept.cached,
        "budget": kept.manifest["budget"],
        "source": kept.manifest["source"],
    }
    if as_json:
        return _print_json(answer)
    budget, source = answer["budget"], answer["source"]
    print(f"{source['file']}: {source['format']}, read as {source['units']}, sha256 {source['sha256'][:12]}")
    print(f"attack    {answer['attack']}\npath      {kept.path}\nchecksum  {kept.checksum}")
    print(f"covers    {source.get('covers', len(kept.images)):,} of {len(kept.images):,} images")
    print(f"budget    {budget['norm']}: spent {budget['spent']:.4g} (pixel units)")


@poisons_app.command("export")
def poisons_export(
    item: str,
    to: Annotated[Path, typer.Option(help="Folder or file to write; must not be there.")],
    dataset: Annotated[str, typer.Option(help="Data set item.")] = "digits",
    format_: Annotated[str, typer.Option("--format", help="png: a folder with data/<index>.png; npz: one file.")] = "png",
    seed: Annotated[int, typer.Option(help="Seed of the attack.")] = 0,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Write a poison for others, with labels and manifest; it is crafted if it is not in the store.

    Example: `bench poisons export lsp --dataset digits --to lsp-digits`
    """
    from benchmark import schedule
    from poisons.recipe import PoisonRecipe
    from registry import ATTACKS, DATASETS, MissingDataError, data

    part = DATASETS.resolve(dataset)[0]
    recipe = PoisonRecipe(part, ATTACKS.resolve(item), seed)
    chosen = schedule.choose_device(device)
    space = _workspace(workspace)
    for one in recipe.family:
        if sentence := data.missing(one.dataset):
            raise MissingDataError(sentence)
    from poisons import exchange
    from poisons.store import Store

    loaded = data.load(part)
    exchange.may_write(to, format_)
    kept = Store(space.poisons, chosen).poison(recipe, loaded)
    exchange.hand_out(kept, loaded.train, to, format_)
    answer = {"attack": recipe.text, "path": str(to), "format": format_, "checksum": kept.checksum, "images": len(kept.labels)}
    if as_json:
        return _print_json(answer)
    print(f"{recipe.text} on {part.text}: {answer['images']} images, {format_}\npath      {to}\nchecksum  {kept.checksum}")


# Running


@app.command()
def run(
    grid: Grid = None,
    cell: Annotated[str | None, typer.Option(help="Run one cell again: its id, or a record file.")] = None,
    dataset: DatasetAxis = None,
    attack: AttackAxis = None,
    defense: DefenseAxis = None,
    architecture: ArchitectureAxis = None,
    protocol: ProtocolAxis = None,
    seed: SeedAxis = None,
    ratio: RatioAxis = None,
    part: PartAxis = None,
    measure: MeasureAxis = None,
    executor: Executor = "local",
    workers: Annotated[int | None, typer.Option(help="Processes of the local executor.", min=1)] = None,
    cells_per_device: PerDevice = 1,
    profile: ProfilePath = None,
    cells_per_job: PerJob = None,
    wait: Wait = False,
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan, run nothing.")] = False,
    show_sbatch: Annotated[bool, typer.Option(help="With --dry-run: print the scripts for sbatch, exactly.")] = False,
    force: Annotated[bool, typer.Option(help="Run finished cells again and replace their records.")] = False,
    limit: Annotated[int | None, typer.Option(help="Run at most so many cells.", min=1)] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on the epochs; makes another protocol.")] = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Plan and run the cells of a grid that have no record yet, then print its table.

    With --grid, a value or glob on an axis keeps the cells that match and old=new replaces; without --grid the axes are what
    you give (defaults: protocol quick, data set digits, attack and defense none, architecture small-cnn, seed 0).

    Examples: `bench run --grid quick`, `bench run --attack lsp,none --defense 'none,jpeg(quality=10)' --seed 0,1`
    """
    from benchmark import driver

    space = _workspace(workspace)
    wishes = _selectors(dataset=dataset, attack=attack, defense=defense, architecture=architecture)
    wishes |= _selectors(protocol=protocol, seed=seed, ratio=ratio, part=part, measure=measure)
    options = driver.Options(
        executor, workers, cells_per_device, device, force, limit, profile=profile, cells_per_job=cells_per_job, wait=wait
    )
    if show_sbatch and not dry_run:
        raise _usage("--show-sbatch shows what a run would submit; give --dry-run too")
    if cell is not None:
        if grid or any(wishes.values()) or scale:
            raise _usage("--cell names one whole cell; leave --grid, --scale and the selectors out")
        return _run_again(driver.find_record(cell, space), space, options, dry_run, as_json)
    name, table = driver.choose(grid, wishes, scale)
    if dry_run:
        plan = driver.plan_table(name, table, space, options, dry_run)
        if not show_sbatch:
            return _print_plan(plan, as_json)
        scripts = driver.scripts(plan, space, options)
        return _print_json(scripts) if as_json else print("\n".join(scripts))
    _print_outcome(name, table, space, driver.run_table(name, table, space, options, as_json), as_json)


@app.command()
def retry(
    grid: Grid = "quick",
    executor: Executor = "local",
    workers: int | None = None,
    cells_per_device: PerDevice = 1,
    profile: ProfilePath = None,
    cells_per_job: PerJob = None,
    wait: Wait = False,
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Run the failed cells of a grid again, those too that `bench run` leaves alone, and the missing ones.

    Example: `bench retry --grid quick`
    """
    from benchmark import driver

    space = _workspace(workspace)
    name, table = driver.choose(grid, {})
    options = driver.Options(
        executor, workers, cells_per_device, device, retry=True, profile=profile, cells_per_job=cells_per_job, wait=wait
    )
    _print_outcome(name, table, space, driver.run_table(name, table, space, options, as_json), as_json)


@app.command()
def status(grid: Grid = "quick", workspace: Where = None, as_json: Json = False) -> None:
    """Say how far a grid is, from its files alone, and from SLURM's queue where there is one.

    Example: `bench status --grid quick`
    """
    from benchmark import driver

    space = _workspace(workspace)
    name, table = driver.choose(grid, {})
    _print_status(name, driver.stands(name, table, space), as_json)


def _print_status(name: str, plan: Plan, as_json: bool) -> None:
    if as_json:
        return _print_json(plan.counts())
    counts = {key.replace("_", " "): n for key, n in plan.counts().items() if n and key not in ("grid", "cells", "ran")}
    print(f"{name}: {len(plan.tasks) + len(plan.absent)} cells, " + ", ".join(f"{n} {state}" for state, n in counts.items()))
    for task in plan.tasks:
        if plan.states[task.cell.id] in ("failed", "stale", "lost"):
            print(f"  {plan.states[task.cell.id]} {task.cell.label}: {plan.reasons[task.cell.id]}")


@app.command()
def attach(grid: Grid = "quick", workspace: Where = None, as_json: Json = False) -> None:
    """Watch a grid until none of its cells is queued or running. Ctrl-C leaves the jobs alone.

    Example: `bench attach --grid quick`
    """
    from benchmark import driver

    space = _workspace(workspace)
    name, table = driver.choose(grid, {})
    plan = driver.attach(name, table, space, as_json)
    _print_status(name, plan, as_json)
    _exit(plan)


@app.command()
def cancel(grid: Grid = "quick", workspace: Where = None, as_json: Json = False) -> None:
    """Stop the runs that have cells of a grid: queued jobs are cancelled, running ones end. What is finished stays.

    Example: `bench cancel --grid quick`
    """
    from benchmark import driver

    space = _workspace(workspace)
    name, table = driver.choose(grid, {})
    count = driver.cancel(table, space)
    if as_json:
        return _print_json({"grid": name, "cancelled": count})
    print(f"{name}: cancelled {count} cells that were queued or running")


@app.command()
def logs(
    cell: Annotated[str | None, typer.Argument(help="A cell's id; else the failed cells of the grid.")] = None,
    grid: Grid = "quick",
    lines: Annotated[int, typer.Option(help="How many lines of a job's log, from its end.", min=1)] = 40,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Print why cells of a grid failed, with their tracebacks; or the end of the log of one cell's job.

    Examples: `bench logs --grid quick`, `bench logs 0123456789abcdef`
    """
    from benchmark import driver, watch
    from benchmark import grid as grids

    space = _workspace(workspace)
    wanted = {cell} if cell else {one.id for one in grids.expand(driver.choose(grid, {})[1])[0]}
    rows = [
        {"cell": f.cell.label, "id": f.id, "kind": f.kind, "message": f.message, "attempts": f.attempts, "log": f.log}
        for f in _records(space).failures()
        if f.id in wanted
    ]
    if cell and not rows:
        jobs = watch.logs(space, wanted)
        if not jobs:
            raise _usage(f"there is no log of cell {cell!r}; `bench status` and `bench run --dry-run` show the ids of cells")
        rows = [{"cell": cell, "id": cell, "kind": "", "message": "", "attempts": 0, "log": jobs[cell]}]
    if as_json:
        return _print_json(rows)
    print("no failed cells" if not rows else "", end="\n" if not rows else "")
    for row in rows:
        ended = f"{row['kind']}: {row['message']} (attempt {row['attempts']}, {row['log']})" if row["kind"] else row["log"]
        print(f"{row['cell']}: {ended}")
        path = Path(str(row["log"]))
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            print("\n".join(text.splitlines()[-lines:]) if path.suffix == ".out" else text)


def _exit(after: Plan) -> None:
    """4: some cells are still queued or running; 3: some failed or were lost."""
    counts = after.counts()
    if counts["queued"] or counts["running"]:
        raise typer.Exit(4)
    if counts["failed"] or counts["lost"]:
        raise typer.Exit(3)


def _print_outcome(name: str, table: Table | Printed, space: Workspace, outcome: Outcome, as_json: bool) -> None:
    from benchmark.display import duration

    after = outcome.after
    counts = after.counts() | {"ran": outcome.ran}
    if as_json:
        _print_json(counts)
    else:
        if counts["done"]:
            _print_figures(after, _records(space))
            if any(task.analysis is None for task in after.tasks):
                _print_table(name, table, _records(space))
        said = f"ran {outcome.ran} cells in {duration(outcome.seconds)}" if outcome.plan.to_run else "nothing to run"
        if waiting := counts["queued"] + counts["running"]:
            said = f"{waiting} queued or running"
        print(f"{name}: {counts['done']} of {counts['cells']} cells done; {said}")
        for task in after.tasks:
            if after.states[task.cell.id] == "failed":
                print(f"failed: {task.cell.label}: {after.reasons[task.cell.id]} (bench logs, bench retry)", file=sys.stderr)
    _exit(after)


def _print_figures(plan: Plan, records: Records) -> None:
    """Print what analyses of a plan have measured, a line per cell."""
    from benchmark.display import said

    for task in plan.tasks:
        record = records.read(task.cell.id) if task.analysis and plan.states[task.cell.id] == "done" else None
        if record is not None:
            print(f"{task.cell.label}  {said(record.outcome)}")


def _run_again(before: Record, space: Workspace, options: Options, dry_run: bool, as_json: bool) -> None:
    from benchmark import driver

    if dry_run:
        return _print_plan(driver.plan_again(before, space, options, dry_run), as_json)
    after = driver.run_again(before, space, options, as_json)
    if before.cell.measure != "accuracy":
        return _compare_figures(before, after, as_json)
    then, now = (r.metrics.test_acc if r and r.metrics else None for r in (before, after))
    if as_json:
        _print_json({"cell": before.id, "recorded": then, "measured": now})
    elif now is not None and then is not None:
        verdict = "the same" if now == then else f"{100 * (now - then):+.1f} points"
        print(f"{before.cell.label}: recorded {100 * then:.1f}%, now {100 * now:.1f}%: {verdict}")
    if after is None:
        raise typer.Exit(3)


def _compare_figures(before: Record, after: Record | None, as_json: bool) -> None:
    """Print the figures of an analysis, recorded and measured again."""
    then, now = (r.metrics.figures if r and r.metrics else {} for r in (before, after))
    if as_json:
        _print_json({"cell": before.id, "recorded": then, "measured": now})
    else:
        rows = [[name, f"{value:.6g}", f"{now[name]:.6g}" if name in now else ""] for name, value in then.items()]
        _table(["figure", "recorded", "now"], rows)
    if after is None:
        raise typer.Exit(3)


def _print_plan(plan: Plan, as_json: bool) -> None:
    from benchmark import driver

    if not as_json:
        return print(driver.plan_text(plan))
    done = sum(state == "done" for state in plan.states.values())
    more = {"to_run": len(plan.to_run), "cached": done, "stages": plan.stages(), "seconds_estimate": plan.seconds_estimate}
    _print_json(plan.counts() | more)


# Numbers of others


@app.command()
def submit(
    cells: Annotated[Several, typer.Argument(metavar="[CELL...]", help="Ids of cells; default: all measured here.")] = None,
    grid: Grid = None,
    dataset: DatasetAxis = None,
    attack: AttackAxis = None,
    defense: DefenseAxis = None,
    architecture: ArchitectureAxis = None,
    seed: SeedAxis = None,
    output: Annotated[Path, typer.Option(help="The bundle to write.")] = Path("submission.zip"),
    name: Annotated[str, typer.Option(help="Who measured; published with the numbers.")] = "",
    contact: Annotated[str, typer.Option(help="How to reach you; published too.")] = "",
    note: Annotated[str, typer.Option(help="A sentence about the numbers; published too.")] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a bundle's files instead.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Pack records for others to publish: one file of data, checked as its receiver will check it.

    Records that are stale, failed or of changed code are refused. Selectors keep cells of the grid, or those that they define.

    Examples: `bench submit --grid quick --name 'A. Author'`, `bench submit --schema`
    """
    from results import submission as submissions

    if schema:
        return _print_json(submissions.schema())
    if not name:
        raise _usage("--name is missing; it says on the pages who measured these numbers")
    from benchmark import acceptance, driver
    from benchmark import grid as grids
    from results.record import write_file

    records = _records(_workspace(workspace))
    wishes = _selectors(dataset=dataset, attack=attack, defense=defense, architecture=architecture, seed=seed)
    if cells and (grid or any(wishes.values())):
        raise _usage("ids name whole cells; leave --grid and the selectors out")
    if grid or any(wishes.values()):
        wanted = [cell.id for cell in grids.expand(driver.choose(grid, wishes)[1])[0]]
    else:
        wanted = list(cells or sorted(records.ids()))
    chosen = acceptance.choose(wanted, records, named=bool(cells))
    content, found = acceptance.packed(chosen.records, records, name, contact, note)
    write_file(output, content)
    answer = {"path": str(output), "records": len(chosen.records), "bytes": len(content), "digest": found.digest}
    if as_json:
        return _print_json(answer | {"left_out": dict(chosen.left)})
    print(f"{output}: {len(chosen.records)} records, {len(content):,} bytes, sha256 {found.digest[:12]}")
    if chosen.left:
        print("left out: " + ", ".join(f"{count} {why}" for why, count in chosen.left.items()))
    print("next: send it to whoever keeps the leaderboard, or open a pull request with it; see docs/submitting.md")


@app.command()
def accept(
    submission: Annotated[
        str | None, typer.Argument(metavar="[BUNDLE|DIGEST]", help="A bundle, or one that was taken in; default: list these.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check the bundle, keep nothing.")] = False,
    verify_poisons: Annotated[bool, typer.Option(help="Craft every poison here and compare the checksums.")] = False,
    rerun: Annotated[int | None, typer.Option(help="Measure so many of its cells again, drawn at random.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw; else one that nobody knows before.", min=0)] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Points by which a re-run may differ; else from the spread over seeds here.", min=0)
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Remove a submission and its records.")] = False,
    executor: Annotated[str, typer.Option(help="Of a re-run: local or inline.")] = "local",
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Check a bundle of somebody's records and take it in, all of it or nothing; later, verify what it says.

    Nothing of a bundle is executed, unpickled or extracted. Its numbers are marked on every page: self-reported, until
    --verify-poisons and --rerun, which craft and train here, say more.

    Examples: `bench accept submission.zip --dry-run`, `bench accept submission.zip`, `bench accept 1f2e3d --rerun 3`
    """
    from results import submission as submissions

    space = _workspace(workspace)
    records = _records(space)
    if submission is None:
        rows = submissions.rows(records)
        if as_json:
            return _print_json(rows)
        shown = ["digest", "name", "accepted", *submissions.TIERS, "replaced"]
        from rich.markup import escape  # names are other people's

        return _table(shown, [[escape(str(row[key])) for key in shown] for row in rows])
    if dry_run and (verify_poisons or rerun or withdraw):
        raise _usage("--dry-run keeps nothing; leave --verify-poisons, --rerun and --withdraw out")
    from benchmark import acceptance, driver, schedule

    if withdraw:
        gone = acceptance.find(submission, records)
        answer: dict[str, Any] = {"digest": gone.digest, "withdrawn": acceptance.withdraw(gone, records)}
        return _print_json(answer) if as_json else print(f"withdrew submission {gone.short}: {answer['withdrawn']} records")
    chosen = schedule.choose_device(device)
    if Path(submission).suffix or Path(submission).exists():
        one, answer = _taken_in(Path(submission), space, dry_run, as_json)
    else:
        one = acceptance.find(submission, records)
        answer = {"digest": one.digest}
    findings = []
    if one is not None and verify_poisons:
        findings += acceptance.verify_poisons(one, space, chosen, as_json)
    if one is not None and rerun:
        import secrets

        answer["seed"] = secrets.randbelow(2**31) if seed is None else seed
        options = driver.Options(executor, device=device)
        allowed = None if tolerance is None else tolerance / 100
        findings += acceptance.rerun(one, space, options, rerun, answer["seed"], allowed, as_json)
    if as_json:
        _print_json(answer | {"findings": [vars(finding) for finding in findings]})
    else:
        verdicts = {True: "agrees ", False: "DIFFERS", None: "unknown"}
        for finding in findings:
            print(f"{verdicts[finding.agrees]}  {finding.what}: they say {finding.reported}, here {finding.found}")
        if rerun and one is not None:
            print(f"drawn by --seed {answer['seed']}")
    if not answer.get("accepted", True) or any(finding.agrees is False for finding in findings):
        raise typer.Exit(1)


def _taken_in(path: Path, space: Workspace, dry_run: bool, as_json: bool) -> tuple[Taken | None, dict[str, Any]]:
    """Check a bundle and keep it; None where it is refused, or only looked at."""
    from benchmark import acceptance, runs
    from results import bundle
    from results.submission import taken

    records = _records(space)
    found = bundle.examine(bundle.read(path), records)
    if found.ok:
        acceptance.judge(found, runs.remembered(space))
    new = len(found.contents) - len(found.known)
    checks = [{"name": check.name, "ok": check.ok, "detail": check.detail, "reasons": check.reasons} for check in found.checks]
    one = None
    if found.ok and new and not dry_run:
        space.writable()
        one = acceptance.take(found, records)
    elif found.ok and not dry_run:
        one = next((one for one in taken(records.folder) if one.digest == found.digest), None)
    answer = {"digest": found.digest, "accepted": found.ok, "records": len(found.contents), "new": new, "checks": checks}
    if as_json:
        return one, answer
    for check in found.checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.name}: {check.detail if check.ok else ''}".rstrip())
        for reason in check.reasons:
            print(f"       {reason}")
    if not found.ok:
        print(f"bench: {path} is refused, nothing of it was kept", file=sys.stderr)
    elif dry_run or not new:
        print(f"{path}: {new} of {len(found.contents)} records are new" + ("; kept nothing, as told" if dry_run else ""))
    elif one is not None:
        print(f"took in {new} records of {one.submission.name} as self-reported, submission {one.short}")
        print(f"next: bench accept {one.short} --verify-poisons, bench accept {one.short} --rerun 3")
    return one, answer


# Reporting


@app.command()
def report(
    grid: Annotated[
        str | None,
        typer.Option("--grid", "--table", help="A grid, a paper's table, a glob or a file; default: the whole site."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="html, markdown, csv, latex, json; several by commas.")] = "html",
    tidy: Annotated[bool, typer.Option("--tidy", help="With csv: one row per number, papers' values and ours.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder of the site, or of the files.")] = None,
    dataset: DatasetAxis = None,
    attack: AttackAxis = None,
    defense: DefenseAxis = None,
    architecture: ArchitectureAxis = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Render the leaderboard from the records: the whole site as HTML, or one table.

    One table as csv, latex, markdown or json goes to standard output unless --output names a folder. Selectors are those of
    `bench run`: a value or glob keeps, old=new shows what was run in the place of something else.

    Examples: `bench report`, `bench report --table d-vae/table-2 --format latex`, `bench report --format csv --tidy`
    """
    from leaderboard import site

    space = _workspace(workspace)
    formats = _wishes([format_])
    wishes = _selectors(dataset=dataset, attack=attack, defense=defense, architecture=architecture)
    if tidy and (formats != ["csv"] or as_json):
        raise _usage("--tidy is a form of CSV; add --format csv")
    if not grid and any(wishes.values()):
        raise _usage("selectors are for one table or grid; name it by --table")
    shown = site.Shown.of(grid, wishes, _records(space), tidy=tidy)
    if changed := _records(space).changed():
        names = ", ".join(changed[:5]) + (" and more" if len(changed) > 5 else "")
        print(f"bench: warning: {len(changed)} records are not as they were written: {names}", file=sys.stderr)
    if tidy:
        return _deliver({"tidy.csv": shown.tidy()}, output, as_json)
    if wrong := [f for f in formats if f not in site.FORMATS]:
        raise _usage(f"unknown format {wrong[0]!r}; formats are {', '.join(site.FORMATS)}")
    if "html" in formats or output is not None:
        paths = shown.write(output or space.site, formats, space.poisons, site.changelog(space.root), space.figures)
        if as_json:
            return _print_json([str(path) for path in paths])
        if (grid and not shown.boards) or "html" not in formats:
            print("\n".join(str(path) for path in paths if path.suffix == ".html" or "html" not in formats))
        else:
            print(paths[0])
    else:
        print("".join(shown.text(one) for one in formats), end="")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port; 0 takes any free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 shows the site to the whole network.")] = "127.0.0.1",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Serve the site for a look, from memory, until Ctrl-C. After new records a reload shows new pages, some seconds later.

    Example: `bench serve --port 0`
    """
    from leaderboard import site
    from leaderboard.serve import Server

    space = _workspace(workspace)

    def render() -> dict[str, str | bytes]:
        shown = site.Shown.of(None, {}, _records(space))
        return shown.site(space.poisons, site.changelog(space.root), space.figures).files()

    with Server(host, port, space.records, render) as server:
        if as_json:
            print(json.dumps({"address": server.address, "files": len(server.files)}), flush=True)
        else:
            print(f"{server.address} shows {len(_records(space).ids())} records of {space.records}; Ctrl-C ends", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("", file=sys.stderr)


@app.command()
def publish(
    to: Annotated[str, typer.Option(help="A folder, or REMOTE#BRANCH: a remote's name, a path or an address.")],
    release: Annotated[str, typer.Option(help="Name of a release, for CITATION.cff, such as 2026.1.")] = "",
    since: Annotated[Path | None, typer.Option(help="Folder of the publication to compare with, if not --to.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Show images of stored poisons, if you may.")] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Publish records of uncommitted code too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be published, and write nothing.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Publish the site with its records, checksums and a citation, to a folder or as a commit on a branch.

    What `bench publish` did not make is never overwritten, nothing is pushed by force, and what is as it was is left alone. The
    page of changes lists the numbers that moved since the publication before.

    Examples: `bench publish --to public`, `bench publish --to origin#gh-pages --dry-run`
    """
    from leaderboard import places, site
    from leaderboard import publish as publishing

    space = _workspace(workspace)
    outcome, chosen = publishing.publish(
        places.place(to),
        _records(space),
        space.root,
        changelog=site.changelog(space.root),
        store=space.poisons if pictures else None,
        since=since,
        release=release,
        allow_dirty=allow_dirty,
        dry_run=dry_run,
    )
    if as_json:
        return _print_json(publishing.as_json(to, outcome, chosen, dry_run))
    print(publishing.text(to, outcome, chosen, dry_run))


@app.command()
def compare(
    name: Annotated[
        str | None, typer.Argument(metavar="[PAPER|TABLE]", help="A paper, a table or a glob; default: all.")
    ] = None,
    dataset: DatasetAxis = None,
    attack: AttackAxis = None,
    defense: DefenseAxis = None,
    architecture: ArchitectureAxis = None,
    claims: Annotated[bool, typer.Option("--claims", help="Check what the papers claim with a number instead.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Compare our numbers with the papers': coverage, how many lie within 1, 2 and 5 points, ranks, the largest deviations.

    Examples: `bench compare d-vae`, `bench compare --claims`
    """
    from leaderboard import agreement

    wishes = _selectors(dataset=dataset, attack=attack, defense=defense, architecture=architecture)
    if claims:
        from leaderboard import claims as claimed
        from leaderboard.sheet import sheets
        from registry import lacking, resolve

        checked = claimed.checked(sheets(agreement.chosen(name, wishes), _records(_workspace(workspace)), resolve, lacking))
        return _print_json(claimed.rows(checked)) if as_json else print(claimed.text(checked))
    found = agreement.compare(name, wishes, _records(_workspace(workspace)))
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else agreement.text(found))


def _deliver(texts: dict[str, str], output: Path | None, as_json: bool) -> None:
    """Print texts, or write them to a folder and print their paths."""
    if output is None:
        return print("".join(texts.values()), end="")
    from leaderboard import render

    paths = render.write([], output, (), more=texts)
    _print_json([str(path) for path in paths]) if as_json else print("\n".join(map(str, paths)))


def _print_table(name: str, table: Table | Printed, records: Records) -> None:
    from rich.console import Console

    from registry import lacking, resolve
    from results import Grid

    if isinstance(table, Grid):
        from leaderboard import agreement, printed
        from leaderboard.sheet import sheets

        if any(one.paper for one in table.tables.values()):
            return print(agreement.text(agreement.of(table, records)))
        return print("\n".join(printed.markdown(sheet) for sheet in sheets(table, records, resolve, lacking)), end="")

    from leaderboard import render
    from leaderboard import table as boards

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    shown = render.terminal(boards.board(table, records, name, resolve))
    title, caption, shown.title, shown.caption = shown.title, shown.caption, None, None  # they may be wider than the table
    console.print(title, style="bold")
    console.print(shown)
    console.print(caption, style="dim")


# Shared


def _usage(sentence: str) -> ValueError:
    from registry import EntryError

    return EntryError(sentence)


def _workspace(given: Path | None) -> Workspace:
    from results import Workspace

    space = Workspace.find(given)
    here = Path(__file__).parent.parent
    if space.root == here and (here / "pyproject.toml").exists() and "BENCH_RESULTS" not in os.environ:
        print("bench: warning: working inside the source checkout; --workspace DIR keeps results apart", file=sys.stderr)
    return space


def _records(space: Workspace) -> Records:
    from results import Records

    return Records(space.records)


def _table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    shown = RichTable(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        shown.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(shown)
