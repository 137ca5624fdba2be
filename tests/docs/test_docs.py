"""The documentation's prose: short sentences and pages, links and names that lead somewhere, figures in one table."""

import re
from typing import get_args

import pytest

from harness.components import Kind
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT, anchors, blocks, exists, links, sentences, text_of, words

LONGEST = 30
LENGTHS = {  # lines: a page answers one reader's questions
    "recipes/README.md": 350,
    "recipes/accelerate/README.md": 30,
    "recipes/paper/README.md": 110,
    "recipes/slurm/README.md": 60,
    "leaderboards/README.md": 160,
    ".github/actions/gate/README.md": 90,
    "harness/README.md": 260,
    "harness/boards/README.md": 60,
    "harness/gate/README.md": 50,
    "harness/models/README.md": 70,
    "harness/servers/README.md": 90,
    "harness/training/README.md": 90,
    "harness/judging/README.md": 110,
    "tests/README.md": 120,
}
MEASURED = re.compile(
    r"\d ?×(?! ?\d)|\d ?(?:s|ms|min|minutes|hours|seconds)\b|±|\d (?:GB|tokens a second|tokens per second)\b"
)
by_page = pytest.mark.parametrize("page", PAGES)


# Prose.


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_no_sentence_is_long(page: str) -> None:
    long = [(words(sentence), sentence) for sentence in sentences(text_of(page)) if words(sentence) > LONGEST]
    assert long == []


def test_what_counts_as_a_sentence() -> None:
    text = "# Head\n\nOne two. `Code here` is three, e.g. this.\n\n- An item\n  goes on.\n\n| a | table |\n"
    text += "```sh\nx\n```\nEnd"
    assert sentences(text) == ["One two.", "CODE is three, e.g. this.", "An item goes on.", "End"]
    assert words("One [two] −log 95 % three-fold.") == 5


@pytest.mark.parametrize(("page", "lines"), LENGTHS.items())
def test_pages_are_short(page: str, lines: int) -> None:
    assert len(text_of(page).splitlines()) <= lines


@by_page
def test_measured_figures_are_in_one_table(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    if page == "tests/README.md":
        prose = prose.partition("| what | command |")[0]
    assert MEASURED.findall(prose) == []


def measured() -> list[list[str]]:
    table = text_of("tests/README.md").partition("| what | command | machine | date | value |\n")[2]
    return [[cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in table.splitlines()[1:]]


def test_every_measured_figure_has_its_command_machine_and_date() -> None:
    rows = measured()
    assert len(rows) > 20
    for row in rows:
        assert len(row) == 5, row
        _, command, machine, date, value = row
        assert machine
        assert value
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", date)
        assert command.startswith("`")
        for module in re.findall(r"python -m (tests\.perf\.\w+)", command):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), command
        for path in re.findall(r"(?:tests|recipes)/[\w/-]+\.\w+", command):
            assert (ROOT / path).is_file(), command


# Links and names.


@pytest.mark.parametrize("page", [*PAGES[1:], "CHANGELOG.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    for link in links(text_of(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            file = target if target.is_file() else target / "README.md"
            assert anchor in anchors(file.read_text(encoding="utf-8")), link


@by_page
def test_modules_and_paths_that_are_named_exist(page: str) -> None:
    for span in pages.spans(text_of(page)):
        if re.fullmatch(r"harness(\.\w+)+", span):
            assert exists(span), span
        if re.fullmatch(r"(?:harness|tests|recipes|leaderboards)/[\w/.-]+", span):
            assert (ROOT / span).exists(), span


def test_every_recipe_and_package_is_on_its_page() -> None:
    text = text_of("recipes/README.md")
    for path in [*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "recipes" / "paper").glob("*.yaml")]:
        assert f"]({path.relative_to(ROOT / 'recipes')})" in text, path.name
    (map_,) = [block.text for block in blocks("harness/README.md") if "front door" in block.text]
    for path in (ROOT / "harness").iterdir():
        name = path.stem if path.suffix == ".py" else path.name
        if not name.startswith("_") and path.suffix in ("", ".py") and name != "assets":
            assert re.search(rf"^(?:.*\s)?{name}(?:\s|:|$)", map_, flags=re.MULTILINE), f"{name} is not on the map"


def test_every_kind_of_component_is_reachable() -> None:
    """`harness components` lists them all (tests/cli/test_components_command.py); the pages say so for every kind."""
    text = "\n".join(map(text_of, PAGES))
    for kind in get_args(Kind):
        assert re.search(rf"harness components\s+{kind}\b", text), kind
