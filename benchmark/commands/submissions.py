"""Submissions: `submit`, `accept`."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnable_bench.benchmark.commands.common import (
    Device,
    Grid,
    Json,
    Methods,
    SeedAxis,
    Several,
    Where,
    print_json,
    print_rows,
    records_of,
    split_wishes,
    usage,
    workspace_of,
)

if TYPE_CHECKING:
    from unlearnable_bench.benchmark import provenance
    from unlearnable_bench.benchmark.submissions.verifying import Finding
    from unlearnable_bench.results import Workspace
    from unlearnable_bench.results.bundle import Examined
    from unlearnable_bench.results.submission import Taken

KEPT_NOTHING = "; kept nothing (--dry-run)"


def submit(
    methods: Methods,
    cells: Annotated[
        Several, typer.Argument(metavar="CELL", help="Ids of cells; default: all that were measured here.")
    ] = None,
    grid: Grid = None,
    seed: SeedAxis = None,
    output: Annotated[Path, typer.Option(help="Bundle to write.")] = Path("submission.zip"),
    name: Annotated[str, typer.Option(help="Who measured; published with the numbers. Required.")] = "",
    contact: Annotated[str, typer.Option(help="How to reach you; published too.")] = "",
    note: Annotated[str, typer.Option(help="A sentence about the numbers; published too.")] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a bundle's files instead.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Pack records into one file for the maintainers of a leaderboard, and check it as they will.

    Stale records, failed cells and records of uncommitted code are refused. Selectors choose cells of --grid or, without it,
    define them.

    Examples: `bench submit --grid quick --name 'A. Author'`, `bench submit --schema`
    """
    from unlearnable_bench.results import submission as submissions

    if schema:
        return print_json(submissions.schema())
    if not name:
        raise usage("--name is missing; it says on the pages who measured these numbers")
    from unlearnable_bench.benchmark.submissions import packing
    from unlearnable_bench.results.record import write_file

    records = records_of(workspace_of(workspace))
    selected = _selected(grid, methods.wishes() | {"seed": split_wishes(seed)})
    if cells and selected is not None:
        raise usage("ids name whole cells; leave --grid and the selectors out")
    if selected is None:
        selected = list(cells or sorted(records.ids()))
    chosen = packing.choose_records(selected, records, named=bool(cells))
    content, found = packing.pack_records(chosen.records, records, name, contact, note)
    write_file(output, content)
    answer = {"path": str(output), "records": len(chosen.records), "bytes": len(content), "digest": found.digest}
    if as_json:
        return print_json(answer | {"left_out": dict(chosen.left)})
    print(f"{output}: {len(chosen.records)} records, {len(content):,} bytes, sha256 {found.digest[:12]}")
    if chosen.left:
        print("left out: " + ", ".join(f"{count} {why}" for why, count in chosen.left.items()))
    print("next: send it to the maintainers of the leaderboard, or open a pull request with it; see docs/how-to/submit.md")


def _selected(grid: str | None, wishes: dict[str, list[str]]) -> list[str] | None:
    """Return the ids of the cells of a grid, or of selectors; None where neither is given."""
    from unlearnable_bench.benchmark import driver
    from unlearnable_bench.benchmark import grid as grids

    if not grid and not any(wishes.values()):
        return None
    return [cell.id for cell in grids.expand(driver.choose_grid(grid, wishes)[1])[0]]


def accept(
    submission: Annotated[
        str | None,
        typer.Argument(metavar="BUNDLE|DIGEST", help="Bundle, or the digest of an accepted submission; default: list all."),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tar of your own records (.tar, .tar.gz), made on a machine without the repository."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --own: replace records that exist here.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check the file and keep nothing.")] = False,
    verify_poisons: Annotated[bool, typer.Option(help="Craft every poison here and compare the checksums.")] = False,
    rerun: Annotated[int | None, typer.Option(help="Number of its cells to measure again, drawn at random.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for drawing cells; random if omitted, and printed.", min=0)] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Points by which a re-run may differ; default: from the spread over seeds here.", min=0)
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Remove a submission and its records.")] = False,
    executor: Annotated[str, typer.Option(help="Executor of the re-run: local or inline.")] = "local",
    device: Device = "auto",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Check a bundle of submitted records and accept all of it or nothing; verify its numbers later.

    Nothing of a bundle is executed, unpickled or extracted. Every page marks its numbers as self-reported. Their trust level
    rises by --verify-poisons, which crafts its poisons here, and by --rerun, which trains some of its cells here.

    --own accepts records of your own, such as those of `make gpu`, byte for byte. A commit of this repository must have the
    code that made them, or all are refused. Records that exist here are kept.

    Examples: `bench accept submission.zip --dry-run`, `bench accept submission.zip`, `bench accept 1f2e3d --rerun 3`,
    `bench accept --own records-1.tar`
    """
    from unlearnable_bench.results import submission as submissions

    _check_flags(submission, own, force, dry_run, verify=verify_poisons, rerun=bool(rerun), withdraw=withdraw)
    space = workspace_of(workspace)
    if own is not None:
        return _own_taken_in(own, space, force, dry_run, as_json)
    if submission is None:
        return _print_submissions(submissions.submission_rows(records_of(space)), as_json)
    if withdraw:
        return _withdraw(submission, space, as_json)
    from unlearnable_bench.benchmark import schedule
    from unlearnable_bench.benchmark.submissions import verifying

    chosen = schedule.choose_device(device)
    taken, answer = _submission(submission, space, dry_run, as_json)
    findings = []
    if taken is not None and verify_poisons:
        findings += verifying.verify_poisons(taken, space, chosen, as_json)
    if taken is not None and rerun:
        answer["seed"] = secrets.randbelow(2**31) if seed is None else seed
        findings += _measure_again(taken, space, executor, device, rerun, answer["seed"], tolerance, as_json)
    _print_findings(answer, findings, as_json)
    refused = not answer.get("accepted", True)
    if refused or any(finding.agrees is False for finding in findings):
        raise typer.Exit(1)


def _check_flags(
    submission: str | None, own: Path | None, force: bool, dry_run: bool, *, verify: bool, rerun: bool, withdraw: bool
) -> None:
    """Refuse flags that mean nothing together. EntryError."""
    acts = verify or rerun or withdraw
    if force and own is None:
        raise usage("--force needs --own; a submitted record never replaces one that is here")
    if own is not None and (submission or acts):
        raise usage("--own accepts your own records; leave the bundle, --verify-poisons, --rerun and --withdraw out")
    if submission is not None and dry_run and acts:
        raise usage("--dry-run keeps nothing; leave --verify-poisons, --rerun and --withdraw out")


def _print_submissions(rows: list[dict[str, Any]], as_json: bool) -> None:
    from unlearnable_bench.results.submission import TRUST_LEVELS

    if as_json:
        return print_json(rows)
    shown = ["digest", "name", "accepted", *TRUST_LEVELS, "replaced"]
    print_rows(shown, [[str(row[key]) for key in shown] for row in rows])


def _withdraw(beginning: str, space: Workspace, as_json: bool) -> None:
    from unlearnable_bench.benchmark.submissions import keeping

    records = records_of(space)
    gone = keeping.find(beginning, records)
    count = keeping.withdraw(gone, records)
    if as_json:
        return print_json({"digest": gone.digest, "withdrawn": count})
    print(f"withdrew submission {gone.short}: {count} records")


def _submission(wish: str, space: Workspace, dry_run: bool, as_json: bool) -> tuple[Taken | None, dict[str, Any]]:
    """Take in a bundle, or find one that was taken in by its digest; with what is said of it."""
    from unlearnable_bench.benchmark.submissions import keeping

    if Path(wish).suffix or Path(wish).exists():
        return _taken_in(Path(wish), space, dry_run, as_json)
    one = keeping.find(wish, records_of(space))
    return one, {"digest": one.digest}


def _measure_again(
    one: Taken,
    space: Workspace,
    executor: str,
    device: str,
    count: int,
    seed: int,
    tolerance: float | None,  # points
    as_json: bool,
) -> list[Finding]:
    from unlearnable_bench.benchmark import driver
    from unlearnable_bench.benchmark.submissions import verifying

    options = driver.RunOptions(executor, device=device)
    allowed = None if tolerance is None else tolerance / 100
    return verifying.rerun(one, space, options, count, seed, allowed, as_json)


def _print_findings(answer: dict[str, Any], findings: list[Finding], as_json: bool) -> None:
    if as_json:
        return print_json(answer | {"findings": [vars(finding) for finding in findings]})
    verdicts = {True: "agrees ", False: "DIFFERS", None: "unknown"}
    for finding in findings:
        print(f"{verdicts[finding.agrees]}  {finding.what}: they say {finding.reported}, here {finding.found}")
    if "seed" in answer:
        print(f"drawn by --seed {answer['seed']}")


def _taken_in(path: Path, space: Workspace, dry_run: bool, as_json: bool) -> tuple[Taken | None, dict[str, Any]]:
    """Check a bundle and keep it; None where it is refused, or only looked at."""
    from unlearnable_bench.benchmark import runs
    from unlearnable_bench.benchmark.submissions import judging
    from unlearnable_bench.results import bundle

    examined = bundle.examine(bundle.read_bundle(path), records_of(space))
    if examined.ok:
        judging.judge(examined, runs.remembered(space))
    taken = _kept(examined, space) if examined.ok and not dry_run else None
    answer = {
        "digest": examined.digest,
        "accepted": examined.ok,
        "records": len(examined.contents),
        "new": examined.new,
        "checks": _checks(examined),
    }
    if not as_json:
        _print_checks(examined)
        _print_taken(path, examined, taken, dry_run)
    return taken, answer


def _print_taken(path: Path, examined: Examined, taken: Taken | None, dry_run: bool) -> None:
    """Print what was kept of a bundle."""
    new = examined.new
    if not examined.ok:
        print(f"bench: {path} is refused, nothing of it was kept", file=sys.stderr)
    elif dry_run or taken is None or not new:
        print(f"{path}: {new} of {len(examined.contents)} records are new{KEPT_NOTHING if dry_run else ''}")
    else:
        print(f"accepted {new} records of {taken.submission.name} as self-reported, submission {taken.short}")
        print(f"next: bench accept {taken.short} --verify-poisons, bench accept {taken.short} --rerun 3")


def _kept(examined: Examined, space: Workspace) -> Taken | None:
    """Keep what is new of a bundle; where nothing is, return the submission that it was taken in as."""
    from unlearnable_bench.benchmark.submissions import keeping

    if not examined.new:
        return keeping.by_digest(examined.digest, space.records)
    space.writable()
    return keeping.keep_submission(examined, records_of(space))


def _own_taken_in(path: Path, space: Workspace, force: bool, dry_run: bool, as_json: bool) -> None:
    """Check a tar of records of ours and keep them, all or none; exit code 1 where they are refused."""
    from unlearnable_bench.benchmark.submissions import own
    from unlearnable_bench.benchmark.submissions.packing import first_of
    from unlearnable_bench.results import bundle
    from unlearnable_bench.results.own import read_own

    records = records_of(space)
    examined = bundle.Examined("", contents=read_own(path))
    search = _judge_own(examined, space)
    arrival = own.compare_with_records(examined, records) if examined.ok else own.Arrival()
    cells = arrival.by_fate(force)
    if examined.ok and not dry_run:
        space.writable()
        own.take_own(examined, search.commits, records, new=cells["new"], replaced=cells["replaced"])
    if as_json:
        answer = {"accepted": examined.ok, "records": len(examined.contents), "cells": cells}
        print_json(answer | {"commits": search.commits, "commits_looked_at": search.looked_at, "checks": _checks(examined)})
    else:
        _print_checks(examined)
    if not examined.ok:
        print(f"bench: {path} is refused, nothing of it was kept: {first_of(examined.reasons)}", file=sys.stderr)
        raise typer.Exit(1)
    if not as_json:
        _print_arrival(path, examined, cells, search, dry_run)


def _judge_own(examined: Examined, space: Workspace) -> provenance.Search:
    """Make the checks of a submission, then find the commits that have the code of the records."""
    from unlearnable_bench.benchmark import provenance, runs
    from unlearnable_bench.benchmark.submissions import judging, own
    from unlearnable_bench.results import bundle

    if bundle.examine_records(examined) and examined.ok:
        judging.judge(examined, runs.remembered(space))
    return own.judge_code(examined, provenance.Repository()) if examined.ok else provenance.Search({}, 0)


def _print_arrival(
    path: Path, examined: Examined, cells: dict[str, list[str]], search: provenance.Search, dry_run: bool
) -> None:
    for cell_id in cells["kept"]:
        label = examined.records[cell_id].cell.label
        print(f"kept  {cell_id} ({label}), which is here with another outcome; --force replaces it")
    counts = ", ".join(f"{len(ids)} {kind}" for kind, ids in cells.items())
    print(f"{path}: {counts} ({search.looked_at:,} commits looked at){KEPT_NOTHING if dry_run else ''}")


def _checks(found: Examined) -> list[dict[str, Any]]:
    return [{"name": check.name, "ok": check.ok, "detail": check.detail, "reasons": check.reasons} for check in found.checks]


def _print_checks(found: Examined) -> None:
    for check in found.checks:
        line = f"ok   {check.name}: {check.detail}" if check.ok else f"BAD  {check.name}:"
        print(line.rstrip())
        for reason in check.reasons:
            print(f"       {reason}")
