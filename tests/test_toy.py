"""The tables at toy scale: what stands beside our numbers, and that every method has a row."""

from pathlib import Path
from statistics import fmean

import pytest

from leaderboard import toy
from registry import ANALYSES, ATTACKS, DEFENSES, lacking, resolve
from results import Records, read_table
from results.papers import as_grid
from results.table import table_names

ROOT = Path(__file__).parent.parent
TABLES = [name for name in table_names() if name.startswith("toy-")]


def test_figures_beside_ours_are_those_of_the_papers_tables():
    """A reader compares the two; the figure must be of the same methods, on CIFAR-10, with every image poisoned."""
    known = toy.printed()
    assert known[toy.methods("ops", "none")]["d-vae"][0] == 22.03
    assert 48.16 in known[toy.methods("rem", "at(epsilon=4/255)")]["stable-error-minimizing"]
    assert toy.methods("rem", "at(epsilon=8/255)") != toy.methods("rem", "at(epsilon=4/255)")
    assert toy.methods("em(variant=rem)", "none") == toy.methods("em", "none") != toy.methods("em(staged=true)", "none")


def test_figures_beside_training_without_labels_are_of_the_same_backbone():
    """A poison that leaves 93 % to a victim with labels leaves 48 % to one without: the columns must not mix."""
    without, paper = toy.printed(("simclr",)), "transferable-unlearnable"
    ucl = [toy.methods(f"ucl(variant=tue,backbone={name})", "none") for name in ("simclr", "moco")]
    tue = [toy.methods(f"tue(backbone={name})", "none") for name in ("simclr", "moco")]
    assert 47.78 in without[ucl[0]][paper] and without[tue[0]][paper] == (52.38,)
    assert toy.printed(("moco",))[tue[1]][paper] == (63.38,) and tue[0] not in toy.printed(("moco",))
    assert toy.methods("ucl(variant=cp-c)", "none") not in without, "one pattern per class is another poison"
    assert toy.printed()[ucl[0]][paper] == (92.86,) and toy.printed()[ucl[1]][paper] == (92.62,)


def test_a_place_without_labels_shows_how_easy_its_task_had_become():
    """A probe may not tell two poisons apart that the contrastive loss does; a victim with labels has no such loss."""
    table, records = read_table("toy-contrastive"), Records(ROOT / "results" / "records")
    (clean,) = (line for line in toy.contrastive(table, records).splitlines() if line.startswith("| clean |"))
    supervised, probed = clean.split(" | ")[1:3]
    places = {tuple(wanted.place.labels.values()): wanted.cells for wanted in as_grid(table).wanted(resolve, lacking)}
    (cells,) = (found for labels, found in places.items() if {"clean", "SimCLR"} <= set(labels))
    runs = [records.read(cell.id) for cell in cells]
    losses, accuracies = [run.metrics.curve.objective[-1] for run in runs], [100 * run.metrics.test_acc for run in runs]
    assert len(runs) == 2 and "loss" not in supervised
    assert probed.startswith(f"{fmean(accuracies):.1f} ± ") and probed.endswith(f"(90), loss {fmean(losses):.2f}")


def test_figures_of_papers_are_written_with_both_ends():
    """Two figures of one paper must not become their mean."""
    papers = {"d-vae": (12.26, 10.09), "apbench": (20.78,)}
    assert toy.quoted(papers) == "DV 10.1–12.3, AP 20.8" and toy.spanned(papers) == " (10–21)"  # noqa: RUF001
    assert toy.quoted({}) == "–" and toy.spanned({}) == ""  # noqa: RUF001


@pytest.mark.parametrize(
    ("axis", "catalog", "apart"),
    [
        ("attack", ATTACKS, {"imported"}),  # needs a file of its author
        ("defense", DEFENSES, set()),
    ],
)
def test_every_method_has_a_row_at_toy_scale(axis, catalog, apart):
    """A method that nobody ever saw at work would stand beside the others as if it had been tried."""
    items = {getattr(item, axis) for name in TABLES for _, item in read_table(name).items(axis)}
    shown = {part.name for item in items for part in resolve(f"{axis}s", item)}
    own = {name for name in catalog if catalog.entry(name).source == catalog.entry("none").source}
    assert shown == own - apart, f"give {sorted((own - apart) ^ shown)} a row in a table results/tables/toy-*.toml"


def test_every_analysis_is_in_a_table_at_toy_scale():
    """An analysis that nobody ever ran on real images would be a promise."""
    places = [place for name in TABLES for place in as_grid(read_table(name)).places]
    shown = {
        part.name
        for item in {str(place.fields["measure"]) for place in places} - {"accuracy"}
        for part in resolve("analyses", item)
    }
    assert shown == {name for name in ANALYSES if ANALYSES.entry(name).source == ANALYSES.entry("acm").source}
