"""What was measured: `report`, `serve`, `publish`, `compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearnable_bench.benchmark.commands.common import (
    Json,
    Methods,
    Where,
    print_json,
    records_of,
    split_wishes,
    usage,
    workspace_of,
)

if TYPE_CHECKING:
    from unlearnable_bench.results import Records


def report(
    methods: Methods,
    grid: Annotated[
        str | None,
        typer.Option("--grid", "--table", help="A grid, a paper's table, a glob or a file; default: the whole site."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="html, markdown, csv, latex or json; separate several by commas.")
    ] = "html",
    tidy: Annotated[bool, typer.Option("--tidy", help="With csv: one row per number, published and measured.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for the site or the files.")] = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Render the leaderboard from the records: the whole site as HTML, or one table.

    One table as csv, latex, markdown or json goes to standard output unless --output names a folder. Selectors are for tables
    of papers: a value or glob keeps matching cells, and old=new shows the cells that ran in place of others.

    Examples: `bench report`, `bench report --table d-vae/table-2 --format latex`, `bench report --format csv --tidy`
    """
    from unlearnable_bench.leaderboard.pages import build

    space = workspace_of(workspace)
    formats = split_wishes([format_])
    wishes = methods.wishes()
    if tidy and (formats != ["csv"] or as_json):
        raise usage("--tidy needs --format csv; add it, and leave --json out")
    if not grid and any(wishes.values()):
        raise usage("selectors are for one table or grid; name it by --table")
    unknown = [form for form in formats if form not in build.FORMATS]
    if unknown:
        raise usage(f"unknown format {unknown[0]!r}; formats are {', '.join(build.FORMATS)}")
    shown = build.ShownTables.of(grid, wishes, records_of(space), tidy=tidy)
    _warn_of_changed(records_of(space))
    if tidy:
        return _deliver({"tidy.csv": shown.tidy()}, output, as_json)
    if "html" in formats or output is not None:
        paths = shown.write(output or space.site, formats, space.poisons, build.changelog(space.root), space.figures)
        if as_json:
            return print_json(list(map(str, paths)))
        if (grid and not shown.measured_tables) or "html" not in formats:
            print("\n".join(str(path) for path in paths if path.suffix == ".html" or "html" not in formats))
        else:
            print(paths[0])
    else:
        print("".join(shown.text(one) for one in formats), end="")


def _warn_of_changed(records: Records) -> None:
    """Say which records are not as they were written."""
    changed = records.changed()
    if changed:
        names = ", ".join(changed[:5]) + (" and more" if len(changed) > 5 else "")
        print(f"bench: warning: {len(changed)} records are not as they were written: {names}", file=sys.stderr)


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 shows the site to the whole network.")] = "127.0.0.1",
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Serve the site from memory until Ctrl-C. Reload a page to see new records, some seconds after they are written.

    Example: `bench serve --port 0`
    """
    from unlearnable_bench.leaderboard.pages import build
    from unlearnable_bench.leaderboard.publishing.serve import Server

    space = workspace_of(workspace)

    def render() -> dict[str, str | bytes]:
        shown = build.ShownTables.of(None, {}, records_of(space))
        return shown.site(space.poisons, build.changelog(space.root), space.figures).files()

    with Server(host, port, space.records, render) as server:
        if as_json:
            print(json.dumps({"address": server.address, "files": len(server.files)}), flush=True)
        else:
            print(f"{server.address} shows {len(records_of(space).ids())} records of {space.records}; Ctrl-C ends", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("", file=sys.stderr)


def publish(
    to: Annotated[str, typer.Option(help="Folder, or REMOTE#BRANCH with a remote's name, path or address.")],
    release: Annotated[str, typer.Option(help="Name of a release, such as 2026.1; keeps a frozen copy under it.")] = "",
    doi: Annotated[str, typer.Option(help="DOI of the release, such as 10.5281/zenodo.1234567.")] = "",
    since: Annotated[Path | None, typer.Option(help="Folder of the publication to compare with; default: --to.")] = None,
    url: Annotated[str, typer.Option(help="Where the site will be; adds canonical links, a sitemap and a feed.")] = "",
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Include images of stored poisons; check that you may publish them.")
    ] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Publish records of uncommitted code too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would be published and write nothing.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Publish the site with its records, checksums and a citation, to a folder or as a commit on a branch.

    Files that `bench publish` did not make are never overwritten, unchanged files are not touched, and nothing is pushed by
    force. The page of changes lists the numbers that moved since the previous publication.

    Examples: `bench publish --to public`, `bench publish --to origin#gh-pages --dry-run`
    """
    from unlearnable_bench.leaderboard.pages import build
    from unlearnable_bench.leaderboard.publishing import publication as publishing
    from unlearnable_bench.leaderboard.publishing import targets

    space = workspace_of(workspace)
    outcome, chosen = publishing.publish(
        targets.read_target(to),
        records_of(space),
        space.root,
        changelog=build.changelog(space.root),
        store=space.poisons if pictures else None,
        since=since,
        release=release,
        doi=doi,
        url=url,
        allow_dirty=allow_dirty,
        dry_run=dry_run,
    )
    if as_json:
        return print_json(publishing.publication_json(to, outcome, chosen, dry_run))
    print(publishing.publication_text(to, outcome, chosen, dry_run))


def compare(
    methods: Methods,
    name: Annotated[str | None, typer.Argument(metavar="PAPER|TABLE", help="A paper, a table or a glob; default: all.")] = None,
    claims: Annotated[bool, typer.Option("--claims", help="Check the claims of the papers instead.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Compare measured results with published ones, and papers with each other.

    Prints how many published values are measured, how many agree, the rank correlation and the largest differences.

    Examples: `bench compare d-vae`, `bench compare d-vae/table-2 --attack em`, `bench compare --claims`
    """
    from unlearnable_bench.leaderboard.formats import comparison
    from unlearnable_bench.leaderboard.tables import agreement

    wishes = methods.wishes()
    records = records_of(workspace_of(workspace))
    if not records.ids():
        print(f"note: there are no records in {records.folder}", file=sys.stderr)
    if claims:
        from unlearnable_bench.leaderboard.tables import claims as claimed
        from unlearnable_bench.leaderboard.tables.printed import printed_tables
        from unlearnable_bench.registry import lacking, resolve

        checked = claimed.check_claims(printed_tables(agreement.paper_grid(name, wishes), records, resolve, lacking))
        return print_json(claimed.rows(checked)) if as_json else print(comparison.claims_text(checked))
    found = agreement.compare_named(name, wishes, records)
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else comparison.comparison_text(found))


def _deliver(texts: dict[str, str], output: Path | None, as_json: bool) -> None:
    """Print texts, or write them to a folder and print their paths."""
    if output is None:
        return print("".join(texts.values()), end="")
    from unlearnable_bench.leaderboard.formats import text

    paths = text.write_tables([], output, (), more=texts)
    print_json([str(path) for path in paths]) if as_json else print("\n".join(map(str, paths)))


def paste(
    file: Annotated[str, typer.Argument(help="A file with the copied table, or - for standard input.")],
    paper: Annotated[str, typer.Option(metavar="NAME", help="Name of the paper's folder, such as d-vae.")],
    table: Annotated[str, typer.Option(metavar="LABEL", help="Label that the paper prints: 2, II.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the two files; default: results/papers/NAME here.")] = None,
    as_json: Json = False,
) -> None:
    """Write a first version of a paper's table, a TOML and a CSV file, from a copied one: HTML, Markdown, LaTeX, CSV or tabs.

    Labels and digits are taken over; what entry a label means is guessed, and ? stands where no guess was found. Finish the
    TOML file by hand and compare every value with the paper.

    Example: `bench paste copied.md --paper d-vae --table 2`
    """
    from unlearnable_bench.benchmark.paste import PastedTable, skeleton
    from unlearnable_bench.results.record import FileError

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {file}: {error}") from None
    made = skeleton(PastedTable.read(text), paper, table)
    paths = made.write(out or Path("results/papers") / paper)
    if as_json:
        return print_json({"files": [str(path) for path in paths], "unknown": list(made.unknown)})
    print("\n".join(map(str, paths)))
    if made.unknown:
        print(f"no entry was found for: {', '.join(made.unknown)}")
