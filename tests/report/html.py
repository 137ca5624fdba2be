"""How tests read a page: its elements, and what its charts of dots show."""

from html.parser import HTMLParser
from typing import NamedTuple

VOID = {"meta", "input", "link", "br", "img"}


class Element:
    """An element of a page with its children: elements and texts."""

    def __init__(self, name: str, attributes: dict[str, str | None], parent: "Element | None") -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Element | str] = []

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def all(self, name: str = "", cls: str = "", id: str = "") -> "list[Element]":
        """The elements inside it, in order, with a name, a class, an id."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                fits = (not name or child.name == name) and (not cls or cls in child.classes)
                found += [child] if fits and (not id or child.attributes.get("id") == id) else []
                found += child.all(name, cls, id)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.at = self.root = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs), self.at)
        self.at.children.append(made)
        if tag not in VOID:
            self.at = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.name == tag, f"</{tag}> closes <{self.at.name}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def read(text: str) -> Element:
    """The page's elements. Fails where an element is not closed, or closed by another."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.name}> is not closed"
    return reader.root


class Shown(NamedTuple):
    """What a line of a chart shows on a panel, read off its axis: value, ends of the interval, the line across."""

    value: float
    low: float | None
    high: float | None
    reference: float | None
    title: str


class Chart(NamedTuple):
    """A chart of dots: its title, and per row its panels' points; and each row's colour."""

    title: str
    rows: dict[str, list[Shown | None]]
    colours: dict[str, str]


def _at(element: Element, name: str) -> float:
    return float((element.attributes[name] or "").removesuffix("%"))


def charts(page: Element) -> list[Chart]:
    """The charts of dots, in order. Values are read off the numbers of their axes."""
    return [_chart(figure) for figure in page.all("figure") if figure.all("table", "dots")]


def _chart(figure: Element) -> Chart:
    (table,) = figure.all("table", "dots")
    axes = [_axis(cell) for cell in table.all("tfoot")[0].all("td", "axis")]
    rows: dict[str, list[Shown | None]] = {}
    colours = {}
    for line in table.all("tbody")[0].all("tr"):
        name = line.all("th")[0].attributes["title"] or ""
        cells = line.all("td", "plot")
        rows[name] = [_shown(cell, *axis) for cell, axis in zip(cells, axes, strict=True)]
        (colours[name],) = {" ".join(cell.all("svg")[0].classes) for cell in cells}
    return Chart(figure.all("strong")[0].text, rows, colours)


def _axis(cell: Element) -> tuple[float, float]:
    """Offset and slope of an axis: value = offset + slope · percent, by its first and last number."""
    ticks = [(_at(t, "x"), float(t.text.replace("−", "-"))) for t in cell.all("text")]
    assert len(ticks) > 1, "an axis needs two numbers"
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    slope = (v1 - v0) / (x1 - x0)
    for x, v in ticks:
        assert abs(v0 + slope * (x - x0) - v) <= abs(slope) * 0.02
        assert -0.01 <= x <= 100.01
    return v0 - slope * x0, slope


def _shown(cell: Element, offset: float, slope: float) -> Shown | None:
    points = cell.all("g", "point")
    if not points:
        return None
    marks, intervals, across = (
        points[0].all("svg", "mark"),
        points[0].all("line", "interval"),
        cell.all("line", "reference"),
    )
    low, high = (offset + slope * _at(intervals[0], x) if intervals else None for x in ("x1", "x2"))
    reference = offset + slope * _at(across[0], "x1") if across else None
    return Shown(offset + slope * _at(marks[0], "x"), low, high, reference, points[0].all("title")[0].text)
