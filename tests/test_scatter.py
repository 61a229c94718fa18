"""Perturbations as points: the drawing is whole and safe, t-SNE tells class-wise noise from other noise, the command works."""

import json
import xml.etree.ElementTree as ET

import pytest
import torch
from conftest import call_bench, tiny
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench.benchmark import embed
from unlearnable_bench.leaderboard.formats import scatter
from unlearnable_bench.leaderboard.formats.scatter import Panel, ScatterPlot
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.registry import EntryError
from unlearnable_bench.results import Workspace

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314  (our own drawing)


@given(count=st.integers(0, 30), classes=st.integers(1, 4), panels=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_point_is_drawn_once_inside_its_panel_in_the_colour_of_its_class(count, classes, panels, seed):
    """A reader judges by eye: a lost point, or one over the frame, misleads."""
    generator = torch.Generator().manual_seed(seed)
    points = (torch.randn(count, 2, generator=generator) * 1000 - 3).tolist()
    labels = torch.randint(0, classes, (count,), generator=generator).tolist()
    names = [f"class {number}" for number in range(classes)]
    root = parsed(scatter.svg([Panel(f"poison {n}", points, labels) for n in range(panels)], names, "all"))
    groups = root.findall(f"{SPACE}g")
    assert len(groups) == panels
    for group in groups:
        drawn = {path.get("class"): path.get("d").split("M")[1:] for path in group.findall(f"{SPACE}path")}
        assert {label: len(dots) for label, dots in drawn.items()} == {f"point k{k}": labels.count(k) for k in set(labels)}
        for dot in (dot for dots in drawn.values() for dot in dots):
            x, y = (float(value) for value in dot.removesuffix("h0").split())
            assert 0 < x < scatter.SIDE and scatter.HEAD < y < scatter.HEAD + scatter.SIDE
    assert [text.text for text in root.findall(f"{SPACE}text")] == names


def test_a_drawing_escapes_what_it_prints_and_can_be_read_in_the_dark():
    """Class names come from folders of users, items from grids; a page loads nothing from elsewhere."""
    hostile = "<script>alert(1)</script> & co"
    text = scatter.svg([Panel(hostile, [(0, 0), (1, 1)], [0, 1], note=hostile)], [hostile, "b"], hostile)
    page = scatter.scatter_page(text, hostile, hostile)
    parsed(text)
    assert "<script" not in text and "<script" not in page and "<path" in page
    assert "prefers-color-scheme: dark" in text and "href" not in text and "url(" not in text
    assert text == scatter.svg([Panel(hostile, [(0, 0), (1, 1)], [0, 1], note=hostile)], [hostile, "b"], hostile)


def test_what_a_workspace_keeps_is_a_page_of_its_site(tmp_path):
    """Drawn once, shown with everything else, by the site's own style; a damaged file takes nothing with it."""
    panels = [Panel("lsp(epsilon=2.0)+swap", [(-100.0, 0.25), (7.125, 3.0)], [0, 1], "CSD 0.50"), Panel("ops", [], [])]
    plane = ScatterPlot("Noise & co", "t-SNE of two images", ["cat", "<dog>"], panels)
    back = ScatterPlot.read(plane.text(), "one")
    assert (back.title, back.names, back.panels[0].classes, back.slug) == (plane.title, plane.names, [0, 1], "one")
    assert back.drawing() == plane.drawing() and back.attacks == {"lsp", "swap", "ops"}
    (tmp_path / "good one.json").write_text(plane.text())
    for number, broken in enumerate(
        ["", "[]", "{}", plane.text().replace("[0,1]", "[0]"), plane.text().replace("[0,1]", "[0,-1]")]
    ):
        (tmp_path / f"bad{number}.json").write_text(broken)
    kept = scatter.planes(tmp_path)
    assert len(kept) == 1 and scatter.planes(tmp_path / "none") == []
    files = Site([], planes=kept).files()
    page = files["perturbations.html"]
    assert "<path" in page and "<style" not in page[page.index("<body") :] and "&lt;dog&gt;" in page
    assert all(f"perturbations.{kept[0].slug}.{ending}" in files for ending in ("svg", "pdf"))
    assert 'href="perturbations.html"' in files["attacks.html"] and 'href="perturbations.html"' in files["attack.swap.html"]
    assert 'href="perturbations.html"' not in files["attack.em.html"] + Site([]).files()["attacks.html"]


def test_colours_of_classes_differ_and_read_on_white_and_on_black():
    """No style of a page is needed for them: a page's policy forbids styles of elements."""
    colours = [scatter.colour(number / 20) for number in range(20)]
    assert len(set(colours)) == 20
    for colour in colours:
        red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        bright = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        assert 1.05 / (bright + 0.05) > 3 and (bright + 0.05) / 0.06 > 3  # contrast of graphics, WCAG 1.4.11


def test_points_that_cannot_be_drawn_are_refused():
    """Better a sentence than a drawing that browsers cut off."""
    with pytest.raises(ValueError, match="2 points, 1 classes"):
        scatter.svg([Panel("p", [(0, 0), (1, 1)], [0])], ["a"], "t")
    with pytest.raises(ValueError, match="not finite"):
        scatter.svg([Panel("p", [(0, float("nan"))], [0])], ["a"], "t")


def test_a_sample_has_as_many_images_of_every_class_and_repeats():
    """All poisons are shown by the same images."""
    labels = torch.arange(60) % 3
    rows = embed.sample(labels, 3, 12, seed=1)
    assert torch.equal(rows, embed.sample(labels, 3, 12, seed=1)) and not torch.equal(rows, embed.sample(labels, 3, 12, seed=2))
    assert torch.bincount(labels[rows]).tolist() == [4, 4, 4] and len(rows.unique()) == 12


def test_noise_of_a_class_lies_together_and_other_noise_does_not():
    """The paper's figures 3 and 5: what the eye sees is the neighbourhood."""
    clean = tiny(80)
    generator = torch.Generator().manual_seed(0)
    patterns, own = torch.randn(4, 3, 8, 8, generator=generator), torch.randn(80, 3, 8, 8, generator=generator)
    told = []
    for noise in (patterns[clean.labels] + 0.2 * own, own):
        points = torch.from_numpy(embed.plane(noise, seed=0))
        nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
        told.append(float((clean.labels[nearest] == clean.labels).float().mean()))
    assert told[0] == 1 and told[1] < 0.6
    with pytest.raises(EntryError, match="too few"):
        embed.plane(own[:3], seed=0)


def test_the_command_draws_poisons_of_a_data_set(tmp_path):
    """What a user types: crafts them, and writes a page with a panel each."""
    items = ["lsp", "random-noise(kind=sample)"]
    options = ("--dataset", "digits(per_class=12)", "--images", "60", "--device", "cpu", "--json")
    out, _ = call_bench("poisons", "tsne", *items, *options, "--output", str(tmp_path / "a.html"), workspace=tmp_path)
    found = json.loads(out)
    assert [panel["attack"] for panel in found["panels"]] == items
    assert found["panels"][0]["csd"] < 1 < found["panels"][1]["csd"]
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<!doctype html>" in page
    drawn = parsed(page[page.index("<svg") : page.index("</svg>") + 6])
    assert [group.find("title").text for group in drawn.findall("g")] == items
    assert [len(plane.panels) for plane in scatter.planes(Workspace(tmp_path).figures)] == [2]
    dots = [path.get("d").count("M") for group in drawn.findall("g") for path in group.findall("path")]
    assert sum(dots) == 2 * 60


def test_what_cannot_be_drawn_is_said_in_a_sentence(tmp_path):
    """Clean training has no perturbations, and only two kinds of files are written."""
    assert "ends in .svg or .html" in call_bench("poisons", "tsne", "lsp", "--output", "c.png", workspace=tmp_path, code=2)[1]
    with pytest.raises(EntryError, match="none changes no image: it has no perturbations to show"):
        embed.embed_poisons(["none"], "digits(per_class=12)", Workspace.find(tmp_path))
