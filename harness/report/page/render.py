"""`index.html`: a board as one self-contained file without any network requests.

Everything from a model or a file is treated as text: escaped by the templates, set as text in the browser. Only the
page's own style and script are allowed, by their hashes. Answers are packed per row (gzip, base64) and unpacked when
viewed, so that the page opens quickly.
"""

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.boards.folder import write_owned
from harness.boards.format import visible
from harness.boards.read import read_board
from harness.boards.training_seeds import OVER_SEEDS
from harness.boards.writing import writing
from harness.errors import DataError, StoreError
from harness.files import asset
from harness.report.comparisons import HOW_COMPARED
from harness.report.curves import curve_table, how_drawn
from harness.report.judges import judge_warnings
from harness.report.page.answer import first_screen
from harness.report.page.charts import board_charts
from harness.report.page.compared import compared
from harness.report.page.curve_charts import curve_charts
from harness.report.page.data import packs, page_index
from harness.report.page.examples import board_examples
from harness.report.page.looks import Looks
from harness.report.page.sweep_charts import sweep_charts
from harness.report.page.tables import data_facts, provenance, reading_notes, results, warnings
from harness.report.page.words import minus
from harness.report.sweep import HOW_VARIED, sweep_sections
from harness.report.tax import HOW_TAXED, tax_notes, tax_table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'"
)


def write_page(board: Path) -> Path:
    """Write `index.html` into a board's folder and return its path. Raises DataError for a folder without a board,
    StoreError where the page can't be written."""
    folder = board.parent if board.is_file() else board
    path, real = folder / "index.html", folder.resolve()  # the user names the folder, and may name a link to it
    if not folder.is_dir():
        raise DataError(f"{board} does not exist; expected a board's folder")
    try:
        with writing(real):
            write_owned(real, {path.name: page(real)})
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); check space and rights") from None
    return path


def page(folder: Path) -> str:
    """The text of the page. The same board gives the same bytes."""
    from markupsafe import Markup

    board = read_board(folder)
    entries, looks = board.entries, Looks(board.entries)
    style, script = (asset("report", name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    examples = board_examples(folder, entries)
    first = first_screen(entries, looks)
    return (
        _templates()
        .get_template("page.html")
        .render(
            board=board,
            policy=POLICY.format(style=_hash(style), script=_hash(script)),
            style=Markup(style),
            script=Markup(script),
            first=first,
            judge_warnings=judge_warnings(entries),
            groups=results(board, first.figure, looks),
            over_seeds=OVER_SEEDS,
            warnings=warnings(entries),
            notes=reading_notes(entries),
            tax=tax_table(entries),
            tax_notes=tax_notes(entries),
            how_taxed=HOW_TAXED,
            sections=sweep_sections(entries),
            how_varied=HOW_VARIED,
            compared=compared(board, first.figure),
            how_compared=HOW_COMPARED.replace("**", ""),
            charts=[*sweep_charts(entries, looks), *board_charts(entries, looks)],
            curves=curve_table(entries),
            curve_charts=curve_charts(entries, looks),
            how_drawn=how_drawn(entries),
            has_examples=bool(examples["prompts"]),
            data=data_facts(board),
            provenance=provenance(entries),
            # Both are made for script elements: whatever could end one is escaped.
            index=Markup(page_index(examples, entries, first)),
            packs=[(pack.id, Markup(pack.text)) for pack in packs(examples)],
        )
    )


@lru_cache(maxsize=1)
def _templates() -> "Environment":
    """The templates. What they print is escaped and its control characters are made visible, unless it is Markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(asset("report")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters |= {"minus": minus, "lines": _lines}
    return environment


def _shown(value: Any) -> Any:
    return visible(value) if type(value) is str else value


def _lines(text: str) -> "Markup":
    """A text of several lines, which stay lines."""
    from markupsafe import Markup, escape

    return Markup("\n").join(escape(visible(line)) for line in text.split("\n"))


def _hash(text: str) -> str:
    """A text's SHA-256 in base64."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
