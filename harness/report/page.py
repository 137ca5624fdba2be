"""`index.html`: a board as one self-contained file without any network requests.

Everything from a model or a file is treated as text: escaped in Python, set as text in the browser. Only the page's own
style and script are allowed, by their hashes. Answers are packed per row (gzip, base64) and unpacked when viewed, so
that the page opens quickly.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from harness.boards.entry import Entry
from harness.boards.folder import write_owned
from harness.boards.format import visible
from harness.boards.read import read_board
from harness.boards.writing import writing
from harness.errors import DataError, StoreError
from harness.files import asset
from harness.report.charts import board_charts
from harness.report.examples import board_examples
from harness.report.sweep_charts import sweep_charts
from harness.report.tables import compared_html, data_html, provenance_html, results_html, varied_html

_SAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


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
    board = read_board(folder)
    board_name = visible(board.name)
    style, script = (asset("report", name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    examples = board_examples(folder, board.entries)
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}"
    )
    sections = [
        ("rows", "Results", results_html(board)),
        ("varied", "What was varied", varied_html(board)),
        ("compared", "Which differences are real", compared_html(board)),
        ("charts", "Charts", _charts(board.entries)),
        ("examples", "Examples", _browser(examples)),
        ("data", "Data and training", data_html(board)),
        ("provenance", "Recipe and provenance", provenance_html(board)),
    ]
    filled = [(name, title, body) for name, title, body in sections if body]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in filled)
    parts = "".join(
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>{body}</section>'
        for name, title, body in filled
    )
    date = f"<p class=when>Written {escape(visible(board.generated))}</p>" if board.generated else ""
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark">'
        f"<title>{escape(board_name)}: leaderboard</title><style>{style}</style></head><body>"
        '<a class=skip href="#rows">Skip to the results</a>'
        f"<header><div><p class=kind>Leaderboard</p><h1>{escape(board_name)}</h1>{date}</div>"
        "<button id=theme type=button>Dark or light</button></header>"
        f"<nav aria-label=Sections>{links}</nav><main>{parts}</main>"
        f"{_page_data(examples, board.entries)}<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    """A text's hash as a source of a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_SAFE.get(c, c) for c in text)


def packed(value: Any) -> str:
    """JSON, gzipped and in base64: for large data that is viewed later or never."""
    data = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def _page_data(examples: dict[str, Any], entries: Sequence[Entry]) -> str:
    """The page's data: an index as plain JSON, prompts and each row's answers packed."""
    index = []
    for prompt in examples["prompts"]:
        title = " ".join(" ".join(prompt["turns"]).split())[:110]
        index.append([prompt["id"], prompt["category"], title, sum(map(len, prompt["turns"]))])
    numbers = {
        name: {key: [answer[1], sum(map(len, answer[0]))] for key, answer in row.items()}
        for name, row in examples["rows"].items()
    }
    doubts = {entry.id: _evidence(entry) for entry in entries}
    small = {"rows": list(examples["rows"]), "prompts": index, "numbers": numbers, "flags": doubts}
    parts = [f'<script type="application/json" id="board-data">{embedded(small)}</script>']
    if examples["prompts"]:
        texts = {p["id"]: [p["turns"], p["reference"]] for p in examples["prompts"]}
        parts.append(f'<script type="application/octet-stream" id="pack-prompts">{packed(texts)}</script>')
    for i, row in enumerate(examples["rows"].values()):
        texts = {key: [answer[0], answer[2], answer[3]] for key, answer in row.items()}
        parts.append(f'<script type="application/octet-stream" id="pack-{i}">{packed(texts)}</script>')
    return "".join(parts)


def _evidence(entry: Entry) -> dict[str, list[str]]:
    """By prompt, the names of the guards for which the row's answer is evidence."""
    guards: dict[str, list[str]] = {}
    for benchmark, flags in entry.provenance.guards.items():
        for flag in flags:
            for key in flag.evidence:
                guards.setdefault(f"{benchmark} {key}", []).append(flag.name)
    return guards


def _charts(entries: Sequence[Entry]) -> str:
    figures = []
    for chart in (*sweep_charts(entries), *board_charts(entries)):
        title, words = escape(visible(chart.title)), escape(visible(chart.words))
        images = "".join(
            f'<img class={kind} alt="{title}. {words}" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
            for kind, svg in (("on-light", chart.light), ("on-dark", chart.dark))
        )
        wide = " class=wide" if chart.wide else ""
        figures.append(f"<figure{wide}>{images}<figcaption>{title}</figcaption></figure>")
    return f"<div class=charts>{''.join(figures)}</div>" if figures else ""


def _browser(examples: dict[str, Any]) -> str:
    if not examples["prompts"]:
        return (
            "<p class=note>There are no answers beside this board: they are in its <code>data</code> folder once "
            "<code>harness run</code> has written it.</p>"
        )
    return (
        "<p class=note>Pick a prompt and two rows. Keys: <kbd>j</kbd> <kbd>k</kbd> next and previous prompt, "
        "<kbd>s</kbd> swap the rows, <kbd>/</kbd> search.</p>"
        "<form id=pick><label>Row A <select id=row-a></select></label><label>Row B <select id=row-b></select></label>"
        "<label>Show <select id=show><option value=all>all prompts</option><option value=differ>A and B differ"
        "</option><option value=a>A won</option><option value=b>B won</option><option value=missing>not scored</option>"
        "<option value=flagged>flagged answers</option></select></label>"
        "<label>Category <select id=category></select></label>"
        "<label>Order <select id=order><option value=given>as asked</option><option value=gap>largest difference first"
        "</option><option value=long>longest answers first</option></select></label>"
        "<label class=wide>Search <input id=search type=search autocomplete=off "
        'placeholder="words of the prompt"></label></form>'
        "<p id=count role=status aria-live=polite></p><div class=panes><ol id=list tabindex=0 role=listbox "
        'aria-label="Prompts"></ol><article id=shown aria-live=polite></article></div>'
    )
