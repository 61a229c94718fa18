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
    from results.bundle import Examined
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
    own: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A tar of our own records, made where there is no repository (.tar, .tar.gz)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --own: replace records that are here too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check the file, keep nothing.")] = False,
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

    Records that `make gpu` brings back are ours: --own takes them in, byte for byte, where the hash of the code that made
    them is that of a commit of this repository, and refuses all of them otherwise. A record that is here already is kept.

    Examples: `bench accept submission.zip --dry-run`, `bench accept submission.zip`, `bench accept 1f2e3d --rerun 3`,
    `bench accept --own records-1.tar`
    """
    from results import submission as submissions

    if force and own is None:
        raise usage("--force is for --own; a record that others send never replaces one that is here")
    if own is not None and (submission or verify_poisons or rerun or withdraw):
        raise usage("--own takes in records of ours; leave the bundle, --verify-poisons, --rerun and --withdraw out")
    space = workspace_of(workspace)
    records = records_of(space)
    if own is not None:
        return _own_taken_in(own, space, force, dry_run, as_json)
    if submission is None:
        rows = submissions.rows(records)
        if as_json:
            return print_json(rows)
        shown = ["digest", "name", "accepted", *submissions.TIERS, "replaced"]
        return print_rows(shown, [[str(row[key]) for key in shown] for row in rows])
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
    one = None
    if found.ok and new and not dry_run:
        space.writable()
        one = acceptance.take(found, records)
    elif found.ok and not dry_run:
        one = next((one for one in taken(records.folder) if one.digest == found.digest), None)
    answer = {
        "digest": found.digest,
        "accepted": found.ok,
        "records": len(found.contents),
        "new": new,
        "checks": _checks(found),
    }
    if as_json:
        return one, answer
    _print_checks(found)
    if not found.ok:
        print(f"bench: {path} is refused, nothing of it was kept", file=sys.stderr)
    elif dry_run or not new:
        print(f"{path}: {new} of {len(found.contents)} records are new" + ("; kept nothing, as told" if dry_run else ""))
    elif one is not None:
        print(f"took in {new} records of {one.submission.name} as self-reported, submission {one.short}")
        print(f"next: bench accept {one.short} --verify-poisons, bench accept {one.short} --rerun 3")
    return one, answer


def _own_taken_in(path: Path, space: Workspace, force: bool, dry_run: bool, as_json: bool) -> None:
    """Check a tar of records of ours and keep them, all or none; exit code 1 where they are refused."""
    from benchmark import acceptance, provenance, runs
    from results import bundle
    from results.own import read_own

    records = records_of(space)
    found = bundle.Examined("", contents=read_own(path))
    search = provenance.Search({}, 0)
    if bundle.examine_records(found) and found.ok:
        acceptance.judge(found, runs.remembered(space))
    if found.ok:
        search = acceptance.judge_code(found, provenance.Repository())
    arrival = acceptance.compare(found, records) if found.ok else acceptance.Arrival()
    replaced = [*arrival.stale, *(arrival.other if force else ())]
    kept = [] if force else arrival.other
    if found.ok and not dry_run:
        space.writable()
        acceptance.take_own(found, search.commits, records, new=arrival.new, replaced=replaced)
    cells = {"new": arrival.new, "same": arrival.same, "replaced": replaced, "kept": kept}
    if as_json:
        answer = {"accepted": found.ok, "records": len(found.contents), "cells": cells}
        print_json(answer | {"commits": search.commits, "commits_looked_at": search.looked_at, "checks": _checks(found)})
    else:
        _print_checks(found)
    if not found.ok:
        more = f" (and {len(found.reasons) - 1} more such)" if len(found.reasons) > 1 else ""
        print(f"bench: {path} is refused, nothing of it was kept: {found.reasons[0]}{more}", file=sys.stderr)
        raise typer.Exit(1)
    if as_json:
        return
    for cell_id in kept:
        print(f"kept  {cell_id} ({found.records[cell_id].cell.label}), which is here with another outcome; --force replaces it")
    counts = ", ".join(f"{len(ids)} {kind}" for kind, ids in cells.items())
    looked = f"{search.looked_at:,} commits looked at"
    print(f"{path}: {counts} ({looked})" + ("; kept nothing, as told" if dry_run else ""))


def _checks(found: Examined) -> list[dict[str, Any]]:
    return [{"name": check.name, "ok": check.ok, "detail": check.detail, "reasons": check.reasons} for check in found.checks]


def _print_checks(found: Examined) -> None:
    for check in found.checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.name}: {check.detail if check.ok else ''}".rstrip())
        for reason in check.reasons:
            print(f"       {reason}")
