"""The frozen tables at toy scale: what stands beside our numbers; and that every method has a row in a smoke table."""

import hashlib
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from writers import toy

from unlearnable_bench.registry import ANALYSES, ATTACKS, DEFENSES, lacking, resolve
from unlearnable_bench.results import Grid, Records, read_grid, read_table
from unlearnable_bench.results.table_file import table_names

ROOT = Path(__file__).parent.parent
FROZEN = [name for name in table_names() if name.startswith("toy-")]
SMOKE = [name for name in table_names() if name.startswith("smoke-")]
CELLS = [  # of the frozen tables: how many, and the start of a sha256 over their ids
    ("toy-analyses", 312, "2af75c55f27c8d56"),
    ("toy-attacks", 58, "e498138dad9a69c2"),
    ("toy-blocks", 12, "22b9738f2f797f46"),
    ("toy-contrastive", 80, "4a5e9d643d766fa0"),
    ("toy-defending", 84, "b5b2f66ff3eb9214"),
    ("toy-defenses", 410, "9f384751ab514aed"),
    ("toy-detection", 4, "9ab026d121350692"),
    ("toy-making", 12, "1542df52c25158a3"),
]


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
    requested = Grid.of(table).requested_cells(resolve, lacking)
    by_labels = {tuple(one.request.labels.values()): one.cells for one in requested}
    (cells,) = (found for labels, found in by_labels.items() if {"clean", "SimCLR"} <= set(labels))
    runs = [records.read(cell.id) for cell in cells]
    losses, accuracies = [run.metrics.curve.objective[-1] for run in runs], [100 * run.metrics.test_acc for run in runs]
    assert len(runs) == 2 and "loss" not in supervised
    assert probed.startswith(f"{fmean(accuracies):.1f} ± ") and probed.endswith(f"(90), loss {fmean(losses):.2f}")


def test_numbers_of_an_earlier_version_are_marked():
    """The tables are frozen: what a method was corrected in since then is not in its row, and the row has to say so."""
    rows = toy.attacks(read_table("toy-attacks"), Records(ROOT / "results" / "records")).splitlines()
    marked = {row.split(" | ")[0].removeprefix("| ") for row in rows if toy.STALE in row}
    assert {"ntga", "hypo"} <= marked and not marked & {"none", "ops", "lsp, 8/255", "em", "rem", "sem", "tap", "sep"}


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
def test_every_method_has_a_row_in_a_smoke_table(axis, catalog, apart):
    """A method that nobody ever saw at work would stand beside the others as if it had been tried."""
    specs = {getattr(value.sets, axis) for name in SMOKE for value in read_table(name).values(axis)}
    shown = {part.name for spec in specs for part in resolve(f"{axis}s", spec)}
    own = {name for name in catalog if catalog.entry(name).source == catalog.entry("none").source}
    assert shown == own - apart, f"give {sorted((own - apart) ^ shown)} a row in a table results/tables/smoke-*.toml"


def test_every_analysis_is_in_a_table_of_small_size():
    """An analysis that nobody ever ran on real images would be a promise."""
    places = [place for name in (*FROZEN, *SMOKE) for place in read_grid(name).requests]
    shown = {
        part.name
        for item in {str(place.fields["measure"]) for place in places} - {"accuracy"}
        for part in resolve("analyses", item)
    }
    assert shown == {name for name in ANALYSES if ANALYSES.entry(name).source == ANALYSES.entry("acm").source}


def test_smoke_tables_are_of_the_original_images():
    """What is new is measured on CIFAR-10 as it was published, by a make target of the table's name."""
    targets = (ROOT / "Makefile").read_text()
    for name in SMOKE:
        assert set(read_table(name).dataset) == {"cifar10(per_class=200)"} and name in targets
        items = [str(place.fields[axis]) for place in read_grid(name).requests for axis in ("dataset", "attack")]
        assert not any("jpeg75" in item for item in items)


@pytest.mark.parametrize(("name", "cells", "digest"), CELLS)
def test_the_tables_at_toy_scale_are_frozen(name, cells, digest):
    """They are of images that are JPEGs already: no row is added, and their cells keep their ids and their records."""
    ids = sorted({cell.id for wanted in read_grid(name).requested_cells(resolve, lacking) for cell in wanted.cells})
    assert (len(ids), hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]) == (cells, digest)
    assert "CIFAR-10 re-encoded as JPEG 75" in read_table(name).title
    assert [name for name, _, _ in CELLS] == FROZEN


def test_no_figure_of_a_paper_stands_beside_jpeg_on_jpegs():
    """Images that are JPEGs already lose less under JPEG; `iss` may be JPEG, and `ueraser` has a variant that is."""
    places = read_grid("toy-defenses").requests
    apart = {str(place.fields["defense"]) for place in places if toy.incomparable(place)}
    assert apart == {"jpeg(quality=10)", "iss"}
    known = toy.printed()
    beside = {str(place.fields["defense"]): toy.beside(place, known) for place in places if place.fields["attack"] == "ops"}
    assert not beside["jpeg(quality=10)"] and not beside["iss"] and beside["grayscale"] and beside["none"]
    fields = places[0].fields | {"defense": "ueraser(jpeg=last)"}
    assert toy.incomparable(replace(places[0], fields=fields))
    assert not toy.incomparable(replace(places[0], fields=fields | {"dataset": "cifar10(per_class=200)"}))
