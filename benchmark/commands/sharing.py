"""Numbers of others: `submit`, `accept`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.commands.common import (
    ArchitectureAxis,
    AttackAxis,
    DatasetAxis,
    DefenseAxis,
    Device,
    Grid,
    Json,
    SeedAxis,
    Several,
    Where,
    print_json,
    print_rows,
    records_of,
    selectors,
    usage,
    workspace_of,
)

if TYPE_CHECKING:
    from results import Workspace
    from results.submission import Taken


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
        return print_json(submissions.schema())
    if not name:
        raise usage("--name is missing; it says on the pages who measured these numbers")
    from benchmark import acceptance, driver
    from benchmark import grid as grids
    from results.record import write_file

    records = records_of(workspace_of(workspace))
    wishes = selectors(dataset=dataset, attack=attack, defense=defense, architecture=architecture, seed=seed)
    if cells and (grid or any(wishes.values())):
        raise usage("ids name whole cells; leave --grid and the selectors out")
    if grid or any(wishes.values()):
        wanted = [cell.id for cell in grids.expand(driver.choose(grid, wishes)[1])[0]]
    else:
        wanted = list(cells or sorted(records.ids()))
    chosen = acceptance.choose(wanted, records, named=bool(cells))
    content, found = acceptance.packed(chosen.records, records, name, contact, note)
    write_file(output, content)
    answer = {"path": str(output), "records": len(chosen.records), "bytes": len(content), "digest": found.digest}
    if as_json:
        return print_json(answer | {"left_out": dict(chosen.left)})
    print(f"{output}: {len(chosen.records)} records, {len(content):,} bytes, sha256 {found.digest[:12]}")
    if chosen.left:
        print("left out: " + ", ".join(f"{count} {why}" for why, count in chosen.left.items()))
    print("next: send it to whoever keeps the leaderboard, or open a pull request with it; see docs/submitting.md")


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

    space = workspace_of(workspace)
    records = records_of(space)
    if submission is None:
        rows = submissions.rows(records)
        if as_json:
            return print_json(rows)
        shown = ["digest", "name", "accepted", *submissions.TIERS, "replaced"]
        from rich.markup import escape  # names are other people's

        return print_rows(shown, [[escape(str(row[key])) for key in shown] for row in rows])
    if dry_run and (verify_poisons or rerun or withdraw):
        raise usage("--dry-run keeps nothing; leave --verify-poisons, --rerun and --withdraw out")
    from benchmark import acceptance, driver, schedule

    if withdraw:
        gone = acceptance.find(submission, records)
        answer: dict[str, Any] = {"digest": gone.digest, "withdrawn": acceptance.withdraw(gone, records)}
        return print_json(answer) if as_json else print(f"withdrew submission {gone.short}: {answer['withdrawn']} records")
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
        print_json(answer | {"findings": [vars(finding) for finding in findings]})
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

    records = records_of(space)
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
