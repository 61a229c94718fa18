"""What of the papers is reproduced, from records alone: what agrees, what does not, what was not measured and why.

Parts of a document: the papers table by table, their claims, and the methods with what was seen of each at small scale.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from unlearnable_bench.leaderboard.formats.escaping import DASH, escape_markdown
from unlearnable_bench.leaderboard.tables import claims as claimed
from unlearnable_bench.leaderboard.tables.agreement import counts
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.leaderboard.tables.verdict import DEVIATES, INCOMPARABLE, INCONSISTENT, UNMEASURED, WITHIN
from unlearnable_bench.registry import ATTACKS, DEFENSES, lacking, resolve
from unlearnable_bench.results import Cell, Grid, Record, Records, read_grid, read_table
from unlearnable_bench.results.cells import RequestedCells
from unlearnable_bench.results.reference import Key, source
from writers import toy

Hours = Callable[[Iterable[Cell]], float | None]  # GPU-hours of training some cells; None if one of them is unknown

FELT = 5.0  # points: a smaller change has no direction
UNTRIED = "not tried: no record"
NO_PAPER = "none of this version and setting"
VERDICTS = (WITHIN, DEVIATES, INCONSISTENT)
ENDS = {  # of a score without a number, by its state
    "missing": "not run yet",
    "not-available": "not available",
    "not-applicable": "does not apply",
    "failed": "failed",
}


@dataclass(frozen=True)
class Reproduction:
    """The printed tables of papers over the records of a folder."""

    records: Records
    hours: Hours

    @cached_property
    def grid(self) -> Grid:
        return read_grid("full")

    @cached_property
    def tables(self) -> list[Table]:
        return printed_tables(self.grid, self.records, resolve, lacking)

    @cached_property
    def wanted(self) -> dict[tuple[str, Key], RequestedCells]:
        """The cells of every score, by its table and its labels."""
        return {(one.request.table, one.request.key): one for one in self.grid.requested_cells(resolve, lacking)}

    def _cells(self, score: Score) -> dict[str, Cell]:
        """The cells of a score, by id."""
        return {cell.id: cell for cell in self.wanted[score.request.table, score.request.key].cells}

    def papers(self) -> str:
        """Return the Markdown of every paper: its tables, what is measured of them, how it agrees, what it would take."""
        parts = []
        for paper in dict.fromkeys(table.paper for table in self.tables):
            own = [table for table in self.tables if table.paper == paper]
            parts.append(f"### {escape_markdown(source(paper).title)} ({escape_markdown(source(paper).short)})\n")
            parts += [self._tables(own), self._gaps(own)]
        return "\n".join([*parts, "### All of them\n", self._overall()])

    def _tables(self, own: Sequence[Table]) -> str:
        heads = ("table", "numbers", "exact", "with a stand-in", "reduced", *VERDICTS, UNMEASURED, "GPU-hours left")
        lines = [_line(heads), f"| --- |{' ---: |' * (len(heads) - 1)}"]
        for table in own:
            found = counts([table])
            if not found["cells"]:
                continue  # nothing in it can be compared: its numbers are not legible, or were measured otherwise
            left = found["cells"] - found["measured"] - found["reduced"]
            numbers = (found["cells"], found["exact"], found["measured"] - found["exact"], found["reduced"])
            verdicts = [found["verdicts"].get(verdict, 0) for verdict in VERDICTS]
            told = self._hours(self._open([table])) if left + found["reduced"] else "0"
            lines.append(_line((_label(table), *map(str, (*numbers, *verdicts, left)), told)))
        return "\n".join(lines) + "\n"

    def _open(self, own: Sequence[Table]) -> list[Cell]:
        """The cells that full-size numbers still want, each once."""
        cells: dict[str, Cell] = {}
        for table in own:
            for score in table.direct:
                if score.published is not None and (score.open or score.reduced) and score.state != "not-applicable":
                    cells |= self._cells(score)
        return list(cells.values())

    def _gaps(self, own: Sequence[Table]) -> str:
        """Say why numbers are missing: by dataset what would be trained, and what cannot be."""
        numbers: Counter[tuple[str, str]] = Counter()
        cells: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
        for table in own:
            for score in table.direct:
                if score.published is None or not score.open:
                    continue
                why = _why(score)
                key = (str(score.request.fields["dataset"]).partition("(")[0], why)
                numbers[key] += 1
                cells[key] |= self._cells(score)
        lines = []
        for (dataset, why), count in sorted(numbers.items()):
            took = list(cells[dataset, why].values())
            needs = f"not run yet: {len(took):,} trainings on a GPU, {self._hours(took)} hours"
            lines.append(f"- {dataset}: {count:,} numbers {UNMEASURED}; {escape_markdown(why) if why else needs}.")
        return ("Why not:\n\n" + "\n".join(lines) + "\n") if lines else "Every number of it is measured.\n"

    def _overall(self) -> str:
        total = counts(self.tables)
        open_scores = [s for table in self.tables for s in table.direct if s.published is not None and s.open]
        states = Counter(INCOMPARABLE if score.incomparable else score.state for score in open_scores)
        left = ", ".join(f"{count:,} {ENDS.get(state, state)}" for state, count in states.most_common()) or "nothing"
        cells = self._open(self.tables)
        return (
            f"{total['cells']:,} numbers of {len(self.tables)} tables; {total['measured']:,} measured at full size, "
            f"{total['exact']:,} of them on the data of the paper; {total['reduced']:,} at reduced scale; without a number: "
            f"{left}. Numbers that tables share are one training: {len(cells):,} trainings are left, {self._hours(cells)} "
            f"hours of one GPU without crafting and purifying.\n"
        )

    def _hours(self, cells: Sequence[Cell]) -> str:
        found = self.hours(cells)
        if found is None:
            return "unknown"
        return f"{found:,.0f}" if found >= 10 else f"{found:.1f}"

    def values(self) -> str:
        """Return how many values the tables print, and with how many of them runs are compared: the same for all documents."""
        leaderboard = [table for table in self.tables if source(table.paper).leaderboard]
        papers = [table for table in self.tables if not source(table.paper).leaderboard]
        names = {table.paper for table in papers}
        total, compared = _printed(self.tables), counts(self.tables)["cells"]
        return (
            f"{len(papers)} tables of {len(names)} papers print {_printed(papers):,} values, {len(leaderboard)} tables of the "
            f"APBench leaderboard {_printed(leaderboard):,}: {total:,} in all. Runs are compared with {compared:,} of them; "
            f"the other {total - compared:,} are means and changes that tables compute from their own numbers.\n"
        )

    def claims(self) -> str:
        """Return the Markdown table of what papers claim with a number."""
        heads = ("claim", "where", "in our numbers", "in the paper's own table", "numbers measured")
        lines = [_line(heads), "| --- | --- | --- | --- | ---: |"]
        for one in claimed.check_claims(self.tables):
            ours = one.ours + (f" ({', '.join(one.marks)})" if one.marks else "")
            ours += _told(one.against)
            printed = one.printed + _told(one.printed_against)
            where = f"{source(one.claim.paper).short}, {one.claim.place}"
            cells = (one.claim.text, where, ours, printed, f"{one.measured} of {one.over}")
            lines.append(_line(map(escape_markdown, cells)))
        return "\n".join(lines) + "\n"


def _label(table: Table) -> str:
    return table.file.table if table.file else ""


def _printed(several: Sequence[Table]) -> int:
    """How many values these tables print."""
    return sum(score.published is not None for table in several for score in table.scores.values())


def _told(against: Sequence[str]) -> str:
    """The scores that speak against a claim, behind its verdict."""
    return f": {'; '.join(against)}" if against else ""


def _why(score: Score) -> str:
    """Say why a score has no number to compare, where it is not for want of a run."""
    if score.incomparable:
        return "figures of images that are JPEGs already are not compared"
    return score.reason if score.state in ("not-available", "not-applicable", "failed") else ""


# Methods at small scale


def methods(records: Records) -> str:
    """Return the Markdown tables of attacks and defenses: records of each, and whether the change has the papers' sign."""
    used = _used(records)
    known = toy.printed()
    return f"{_attacks(records, used, known)}\n{_untried_variants(records)}\n{_defenses(records, used, known)}"


def _variants() -> Iterator[tuple[str, str]]:
    """Every variant of every attack."""
    for row in ATTACKS.rows:
        kinds = {field.name: field.kind for field in row.fields}
        choices = kinds.get("variant", "").removeprefix("Literal")
        for variant in ast.literal_eval(choices or "[]"):
            yield row.name, variant


def _untried_variants(records: Records) -> str:
    """Name the variants of attacks that no record is of."""
    tried: set[tuple[str, Any]] = set()
    for record in records:
        if record.metrics is not None:
            tried |= {(part.name, part.fields.get("variant")) for part in record.cell.attack}
    left = [f"`{name}(variant={variant})`" for name, variant in _variants() if (name, variant) not in tried]
    return f"Variants of attacks without any record: {', '.join(left) or 'none'}.\n"


def _used(records: Records) -> Mapping[tuple[str, str], int]:
    """How many measured records saw each attack, under no defense, and each defense."""
    found: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record.metrics is not None:
            for kind, parts in (("attack", record.cell.attack), ("defense", record.cell.defense)):
                for name in {part.name for part in parts}:
                    found[kind, name] += 1
    return found


def _sign(change: float) -> str:
    return "lower" if change <= -FELT else "higher" if change >= FELT else "about the same"


def _attacks(records: Records, used: Mapping[tuple[str, str], int], known: Mapping[Any, Any]) -> str:
    """Per attack the change from clean training of every variant that was tried, and that of the papers at full size.

    Both are of victims with labels.
    """
    tables = [toy.measured(read_table(name), records) for name in ("toy-attacks", "toy-contrastive")]
    measured = [pair for table in tables for pair in table if str(pair[0].fields["protocol"]).startswith("toy")]
    of_clean = [(request, runs) for request, runs in measured if runs and request.fields["attack"] == "none"]
    clean = {str(request.fields["dataset"]): _mean(runs) for request, runs in of_clean}
    tried: dict[str, list[float]] = defaultdict(list)
    earlier: set[str] = set()  # of which some number is of an earlier version
    papers_: dict[str, list[float]] = defaultdict(list)
    none = known.get(toy.methods("none", "none"), {})
    every = [value for values in none.values() for value in values]  # where a paper prints no clean training
    for request, runs in measured:
        name = "+".join(part.name for part in resolve("attacks", str(request.fields["attack"])))
        if name != "none":
            if runs and str(request.fields["dataset"]) in clean:
                tried[name].append(_mean(runs) - clean[str(request.fields["dataset"])])
                if toy.stale(runs):
                    earlier.add(name)
            printed = known.get(toy.methods(str(request.fields["attack"]), "none"), {})
            papers_[name] += [fmean(values) - fmean(none.get(paper, every)) for paper, values in printed.items()]
    heads = ("attack", "records", "ours, from clean training", "papers, at full size", "direction")
    lines = [_line(heads), "| --- | ---: | --- | --- | --- |"]
    chains = [name for name in papers_ if "+" in name]
    for name in [*(name for name in ATTACKS if name != "none"), *chains]:
        ours, theirs = tried.get(name, []), papers_.get(name, [])
        agrees = DASH
        if ours and theirs:
            mine = {_sign(change) for change in ours}
            sign = _sign(fmean(theirs))
            agrees = "agrees" if mine == {sign} else "agrees in part" if sign in mine else "not seen at this scale"
        seen = str(used.get(("attack", name), 0)) if "+" not in name else DASH
        told = _points(ours) or ("a tool, see its chain" if any(name in chain.split("+")[1:] for chain in chains) else UNTRIED)
        told += toy.STALE if name in earlier else ""
        lines.append(_line((name, seen, told, _points(theirs) or NO_PAPER, agrees)))
    return "\n".join(lines) + "\n"


def _defenses(records: Records, used: Mapping[tuple[str, str], int], known: Mapping[Any, Any]) -> str:
    """Per defense over the attacks of its table: in how many the accuracy moves as in the papers."""
    found: dict[str, list[tuple[float | None, list[float]]]] = defaultdict(list)  # ours and the papers', by attack
    earlier: set[str] = set()  # of which some number is of an earlier version
    apart: set[str] = set()  # defenses of which no paper's figure may stand beside ours
    for table in map(read_table, toy.OF_DEFENSES):
        requests = toy.measured(table, records)
        at = {(str(p.fields["attack"]), str(p.fields["defense"])): runs for p, runs in requests}
        for request, runs in requests:
            attack, defense = str(request.fields["attack"]), str(request.fields["defense"])
            name = "+".join(part.name for part in resolve("defenses", defense))
            if toy.incomparable(request):
                apart.add(name)
            if toy.stale(runs):
                earlier.add(name)
            if attack != "none":
                bare = at[attack, "none"]
                ours = _mean(runs) - _mean(bare) if runs and bare else None
                with_, without = toy.beside(request, known), known.get(toy.methods(attack, "none"), {})
                theirs = [fmean(with_[paper]) - fmean(without[paper]) for paper in with_ if paper in without]
                found[name].append((ours, theirs))
    heads = ("defense", "records", "ours, from no defense", "papers, at full size", "direction")
    lines = [_line(heads), "| --- | ---: | --- | --- | --- |"]
    for name in [*(name for name in DEFENSES if name != "none"), *(name for name in found if "+" in name)]:
        several = found.get(name, [])
        both = [(ours, fmean(theirs)) for ours, theirs in several if theirs and ours is not None]
        same = sum(_sign(ours) == _sign(theirs) for ours, theirs in both)
        told = _points([ours for ours, _ in several if ours is not None]) or UNTRIED
        told += toy.STALE if name in earlier else ""
        direction = f"agrees on {same} of {len(both)} attacks" if both else DASH
        seen = str(used.get(("defense", name), 0)) if "+" not in name else DASH
        theirs_ = _points([change for _, changes in several for change in changes])
        lines.append(_line((name, seen, told, theirs_ or (INCOMPARABLE if name in apart else NO_PAPER), direction)))
    return "\n".join(lines) + "\n"


def _mean(runs: Sequence[Record]) -> float:
    return fmean(toy.accuracy(run) for run in runs)


def _points(changes: Sequence[float]) -> str:
    """Changes in points, the two ends of several."""
    if not changes:
        return ""
    low, high = (f"{end:+.0f}".replace("-", "−").replace("+0", "0").replace("−0", "0") for end in (min(changes), max(changes)))  # noqa: RUF001
    return low if low == high else f"{low} to {high}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
