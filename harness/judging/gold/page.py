"""The page that shows people pairs of answers: one file without network requests, which says nowhere whose they are.

Texts are put in as text, never as markup. What people choose stays in the browser until they save it as a file.
"""

import base64
import hashlib
from typing import Any

from harness.files import asset
from harness.judging.gold.draw import Draw, Item
from harness.judging.gold.pairs import Pair
from harness.report.page.data import embedded

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'"
)


def page(drawn: Draw) -> str:
    """The page of the pairs that people are asked about."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style, script = (asset("label", name).read_text(encoding="utf-8") for name in ("label.css", "label.js"))
    environment = Environment(
        loader=FileSystemLoader(asset("label")), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    pairs = [_shown(item, drawn.pairs[item.number]) for item in drawn.key.items if item.row_is != "same"]
    return environment.get_template("label.html").render(
        policy=POLICY.format(style=_hash(style), script=_hash(script)),
        style=Markup(style),
        script=Markup(script),
        count=len(pairs),
        data=Markup(embedded({"page": drawn.key.id, "pairs": pairs})),  # made for script elements
    )


def _shown(item: Item, pair: Pair) -> dict[str, Any]:
    left, right = (pair.answer, pair.other) if item.row_is == "left" else (pair.other, pair.answer)
    texts = {"turns": pair.turns, "left": left, "right": right}
    return {"n": item.number, **{name: list(given) for name, given in texts.items()}}


def _hash(text: str) -> str:
    """A text's SHA-256 in base64."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
