"""Inspecting: `list`, `show`, `doctor`, `check`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from unlearnable_bench.benchmark.commands.common import (
    Json,
    ProfilePath,
    Where,
    print_json,
    print_rows,
    records_of,
    usage,
    workspace_of,
)

EntryName = Annotated[str, typer.Argument(metavar="ENTRY", help="Name of the entry, or kind:name, such as attack:lsp.")]


def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of entry, or grids.")],
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Glob that names must match.")] = "*",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """List entries with a summary, paper and source, or grids with their numbers of cells.

    KIND is attacks, defenses, architectures, datasets, protocols, analyses or grids. PATTERN is a glob. For a grid, the list
    shows how many cells it has, how many this machine can run and how many are done. GPU-hours are an estimate of the
    remaining training, from records of similar cells on a GPU or else from multiply-adds.

    Examples: `bench list attacks 'l*'`, `bench list grids 'd-vae/*'`
    """
    from unlearnable_bench.benchmark import listing
    from unlearnable_bench.results.submission import one_line

    grids = kind == "grids"
    rows = listing.listing(kind, pattern, records_of(workspace_of(workspace)) if grids else None)
    if as_json:
        return print_json(rows)
    if not rows:
        return print(f"no {kind} match {pattern!r}; `bench list {kind}` shows all", file=sys.stderr)
    if grids:
        return print_rows(["name", "cells", "runnable", "done", "GPU-hours left", "summary"], list(map(_grid_row, rows)))
    print_rows(["name", "summary", "paper", "source"], list(map(_entry_row, rows)))
    for row in rows:
        if row["error"]:
            print(one_line(f"{row['name']} of {row['source']} cannot be used: {row['error']}"), file=sys.stderr)


def _grid_row(row: dict[str, Any]) -> list[str]:
    hours = "unknown" if row["gpu_hours"] is None else f"{row['gpu_hours']:.1f}"
    return [row["name"], str(row["cells"]), str(row["runnable"]), str(row["done"]), hours, row["summary"]]


def _entry_row(row: dict[str, Any]) -> list[str]:
    return [row["name"], row["summary"] or row["error"], row["paper"], row["source"]]


def show(entry: EntryName, as_json: Json = False) -> None:
    """Show what an entry does, its parameters with defaults and units, its paper and its budget.

    A bare name shows the entries of all kinds that have this name; `attack:none` shows one.

    Example: `bench show lsp`
    """
    from unlearnable_bench.benchmark import listing

    shown = [listing.details(each) for each in listing.find_entries(entry)]
    if as_json:
        return print_json(shown)
    for each in shown:
        print(listing.entry_details(each))


def doctor_(
    slurm: Annotated[bool, typer.Option("--slurm", help="Show the settings and limits of the cluster that matter.")] = False,
    profile: ProfilePath = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Show installed versions, devices, datasets, broken plug-ins, and records that were changed by hand.

    Examples: `bench doctor`, `bench doctor --slurm --profile site.toml`
    """
    from unlearnable_bench.benchmark import doctor
    from unlearnable_bench.results.submission import one_line

    if profile and not slurm:
        raise usage("--profile needs --slurm; give both, or leave it out")
    space = workspace_of(workspace)
    findings = doctor.cluster_findings(space, profile) if slurm else doctor.findings(records_of(space))
    if as_json:
        return print_json({"checks": list(map(vars, findings))})
    for finding in findings:
        print(one_line(f"{_mark(finding.ok)}  {finding.name}: {finding.detail}"))


def check(entry: EntryName, as_json: Json = False) -> None:
    """Run the conformance tests on one entry, built-in or from a plug-in, in less than a minute on a CPU.

    Example: `bench check attack:lsp`
    """
    from unlearnable_bench.benchmark import conformance, listing
    from unlearnable_bench.results.submission import one_line

    findings: list[dict[str, Any]] = []
    for each in listing.find_entries(entry):
        findings += conformance.check_entry(each)
    if as_json:
        print_json({"checks": findings})
    else:
        for finding in findings:
            print(one_line(f"{_mark(finding['ok'])}  {finding['entry']}: {finding['name']}  {finding['detail']}".rstrip()))
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(1)


def _mark(ok: bool) -> str:
    return "ok " if ok else "BAD"
