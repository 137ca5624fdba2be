"""`index.html`: a board as one file that asks nobody for anything.

Everything a model or a file wrote is text: in Python it is escaped, in the browser it is set as text. The page's own
style and script are allowed by their hashes, and nothing else is. Answers are packed (gzip, base64) a row, and unpacked
when they are looked at, so that the page opens at once.
"""

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from harness.board_rows import Entry
from harness.datafiles import asset
from harness.errors import StoreError
from harness.leaderboard import read_board
from harness.report.charts import charts
from harness.report.examples import examples
from harness.report.sweep_charts import sweep_charts
from harness.report.tables import compared, data_notes, provenance, tables, varied

_SAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_page(board: Path) -> Path:
    """Write `index.html` into a board's folder and return its path. Raises DataError for what is no board, StoreError
    where it can't be written."""
    folder = board.parent if board.is_file() else board
    path = folder / "index.html"
    text = page(folder)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8", errors="replace")
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise StoreError(f"{path} can't be written ({error.strerror or error}); check space and rights") from None
    return path


def page(folder: Path) -> str:
    """The whole page. The same board gives the same bytes."""
    board = read_board(folder)
    style, script = (asset("report", name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    found = examples(folder, board.entries)
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}"
    )
    sections = [
        ("rows", "Results", tables(board)),
        ("varied", "What was varied", varied(board)),
        ("compared", "Which differences are real", compared(board)),
        ("charts", "Charts", _charts(board.entries)),
        ("examples", "Examples", _browser(found)),
        ("data", "Data and training", data_notes(board)),
        ("provenance", "Recipe and provenance", provenance(board)),
    ]
    shown = [(name, title, body) for name, title, body in sections if body]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in shown)
    parts = "".join(
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>{body}</section>'
        for name, title, body in shown
    )
    written = f"<p class=when>Written {escape(board.generated)}</p>" if board.generated else ""
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark">'
        f"<title>{escape(board.name)}: leaderboard</title><style>{style}</style></head><body>"
        '<a class=skip href="#rows">Skip to the results</a>'
        f"<header><div><p class=kind>Leaderboard</p><h1>{escape(board.name)}</h1>{written}</div>"
        "<button id=theme type=button>Dark or light</button></header>"
        f"<nav aria-label=Sections>{links}</nav><main>{parts}</main>"
        f"{_packed(found, board.entries)}<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: Any) -> str:
    """JSON that may stand inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_SAFE.get(c, c) for c in text)


def packed(value: Any) -> str:
    """JSON, gzipped and in base64: for what is large and looked at later."""
    data = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def _packed(found: dict[str, Any], entries: Sequence[Entry]) -> str:
    """The page's data: small things as they are, a row's answers packed."""
    index = []
    for prompt in found["prompts"]:
        title = " ".join(" ".join(prompt["turns"]).split())[:110]
        index.append([prompt["id"], prompt["category"], title, sum(map(len, prompt["turns"]))])
    numbers = {
        name: {key: [shown[1], sum(map(len, shown[0]))] for key, shown in row.items()}
        for name, row in found["rows"].items()
    }
    doubts = {entry.id: _evidence(entry) for entry in entries}
    small = {"rows": list(found["rows"]), "prompts": index, "numbers": numbers, "flags": doubts}
    parts = [f'<script type="application/json" id="board-data">{embedded(small)}</script>']
    if found["prompts"]:
        texts = {p["id"]: [p["turns"], p["reference"]] for p in found["prompts"]}
        parts.append(f'<script type="application/octet-stream" id="pack-prompts">{packed(texts)}</script>')
    for place, row in enumerate(found["rows"].values()):
        texts = {key: [shown[0], shown[2], shown[3]] for key, shown in row.items()}
        parts.append(f'<script type="application/octet-stream" id="pack-{place}">{packed(texts)}</script>')
    return "".join(parts)


def _evidence(entry: Entry) -> dict[str, list[str]]:
    """Names of the guards that an answer is evidence of, by prompt."""
    found: dict[str, list[str]] = {}
    for benchmark, flags in entry.section("guards").items():
        for flag in flags if isinstance(flags, list) else []:
            for key in flag.get("evidence", []):
                found.setdefault(f"{benchmark} {key}", []).append(str(flag["name"]))
    return found


def _charts(entries: Sequence[Entry]) -> str:
    made = [*sweep_charts(entries), *charts(entries)]
    figures = []
    for chart in made:
        images = "".join(
            f'<img class={kind} alt="{escape(chart.title)}. {escape(chart.words)}" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
            for kind, svg in (("on-light", chart.light), ("on-dark", chart.dark))
        )
        wide = " class=wide" if chart.wide else ""
        figures.append(f"<figure{wide}>{images}<figcaption>{escape(chart.title)}</figcaption></figure>")
    return f"<div class=charts>{''.join(figures)}</div>" if figures else ""


def _browser(found: dict[str, Any]) -> str:
    if not found["prompts"]:
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
