"""The data of the page's browser of examples: small numbers as JSON, texts packed per row and unpacked when viewed."""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.report.page.answer import First

_SAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Pack(NamedTuple):
    """Data for a script element: its id, and its packed text."""

    id: str
    text: str


def embedded(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_SAFE.get(c, c) for c in text)


def packed(value: Any) -> str:
    """JSON, gzipped and in base64: for large data that is viewed later or never."""
    data = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def page_index(examples: dict[str, Any], entries: Sequence[Entry], first: First) -> str:
    """The index of prompts and answers, with their numbers, as JSON for a script element."""
    index = []
    for prompt in examples["prompts"]:
        title = " ".join(" ".join(prompt["turns"]).split())[:110]
        index.append([prompt["id"], prompt["category"], title, sum(map(len, prompt["turns"]))])
    numbers = {
        name: {key: [answer[1], sum(map(len, answer[0]))] for key, answer in row.items()}
        for name, row in examples["rows"].items()
    }
    rows = list(examples["rows"])
    compared = [rows.index(name) for name in first.compared or () if name in rows]
    return embedded(
        {
            "rows": rows,
            "prompts": index,
            "numbers": numbers,
            "flags": {entry.id: _evidence(entry) for entry in entries},
            "compared": compared if len(compared) == 2 else [0, max(0, len(rows) - 1)],
            "first": first.figure.benchmark if first.figure else "",
            "spans": _spans(entries),
        }
    )


def packs(examples: dict[str, Any]) -> list[Pack]:
    """The texts of the prompts, and those of each row's answers."""
    if not examples["prompts"]:
        return []
    texts = {p["id"]: [p["turns"], p["reference"]] for p in examples["prompts"]}
    answers = [
        {key: [answer[0], answer[2], answer[3]] for key, answer in row.items()} for row in examples["rows"].values()
    ]
    return [Pack("pack-prompts", packed(texts)), *(Pack(f"pack-{i}", packed(row)) for i, row in enumerate(answers))]


def _spans(entries: Sequence[Entry]) -> dict[str, float]:
    """Benchmark -> the largest possible difference of two of its outcomes."""
    spans: dict[str, float] = {}
    for figure in Figures(entries).compared:
        if figure.reach and figure.pairing and figure.pairing.kind == "mean" and figure.pairing.scale:
            spans.setdefault(figure.benchmark, figure.reach / abs(figure.pairing.scale))
    return spans


def _evidence(entry: Entry) -> dict[str, list[str]]:
    """By prompt, the names of the guards for which the row's answer is evidence."""
    guards: dict[str, list[str]] = {}
    for benchmark, flags in entry.provenance.guards.items():
        for flag in flags:
            for key in flag.evidence:
                guards.setdefault(f"{benchmark} {key}", []).append(flag.name)
    return guards
