"""Files of people's own pairs: every usual form is read as the same pair, and what can't be read is one line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.components import build
from harness.data.columns.delimited import is_delimited
from harness.data.rows import is_parquet
from harness.errors import DataError
from harness.protocols import Seed
from harness.types import PreferencePair

ASK, GOOD, BAD = "What is 2 + 2?", 'It is 4, as in "four".', "It is 5;\nor so."
TURN = {"role": "user", "content": ASK}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def share(who: str, value: str) -> dict[str, str]:
    return {"from": who, "value": value}


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(separator: str = ",", **kwargs: Any) -> bytes:
    rows = pd.DataFrame([{"prompt": ASK, "chosen": GOOD, "rejected": BAD}])
    text: str = rows.to_csv(sep=separator, index=False, **kwargs)
    return text.encode()


def part(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


OPENAI = {
    "input": {"messages": [TURN], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [said("assistant", GOOD)],
    "non_preferred_output": [said("assistant", BAD)],
}
SWIFT = {"messages": [TURN, said("assistant", GOOD)], "rejected_response": BAD}
SHARE = {"conversations": [share("human", ASK)], "chosen": share("gpt", GOOD), "rejected": share("gpt", BAD)}
TRL = {"prompt": [TURN], "chosen": [said("assistant", GOOD)], "rejected": [said("assistant", BAD)]}

READ: dict[str, bytes] = {
    "commas.csv": table(),
    "windows.csv": b"\xef\xbb\xbf" + table(lineterminator="\r\n"),
    "semicolons.csv": table(";"),
    "excel-says.csv": b"sep=;\n" + table(";"),
    "utf16.csv": table("\t").decode().encode("utf-16"),
    "tabs.tsv": table("\t"),
    "index.csv": pd.DataFrame([{"prompt": ASK, "chosen": GOOD, "rejected": BAD}]).to_csv().encode(),
    "packed.csv.gz": gzip.compress(table()),
    "blank-lines.csv": b"\n" + table() + b"\n\n",
    "openai-in-cells.csv": pd.DataFrame([{k: json.dumps(v) for k, v in OPENAI.items()}]).to_csv(index=False).encode(),
    "swift-in-cells.csv": pd.DataFrame([{"messages": json.dumps(SWIFT["messages"]), "rejected_response": BAD}])
    .to_csv(index=False)
    .encode(),
    "trl.jsonl": lines(TRL),
    "trl-texts.json": json.dumps([{"prompt": ASK, "chosen": GOOD, "rejected": BAD}], indent=2).encode(),
    "trl-conversations.jsonl": lines({side: [TURN, *TRL[side]] for side in ("chosen", "rejected")}),
    "openai.jsonl": lines(OPENAI),
    "swift.jsonl": lines(SWIFT),
    "swift-messages.jsonl": lines(
        {"messages": SWIFT["messages"], "rejected_messages": [TURN, said("assistant", BAD)], "rejected_response": None}
    ),
    "swift-query.jsonl": lines({"query": ASK, "response": GOOD, "rejected_response": BAD, "history": []}),
    "llama-factory.json": json.dumps([SHARE]).encode(),
    "llama-factory-alpaca.jsonl": lines({"instruction": ASK, "input": "", "chosen": GOOD, "rejected": BAD}),
    "sharegpt-lists.jsonl": lines(
        {"prompt": [share("human", ASK)], "chosen": [share("gpt", GOOD)], "rejected": [share("gpt", BAD)]}
    ),
    "axolotl.jsonl": lines({"messages": [TURN], "chosen": said("assistant", GOOD), "rejected": said("assistant", BAD)}),
    "good-and-bad.jsonl": lines({"question": ASK, "Good_answer": GOOD, "bad_answer": BAD}),
    "preferred.jsonl": lines({"prompt": ASK, "preferred": GOOD, "rejected": BAD}),
    "argilla.jsonl": lines({"instruction": ASK, "chosen_response": GOOD, "rejected_response": BAD}),
    "human-and-gpt.jsonl": lines(
        {"prompt": [said("human", ASK)], "chosen": [said("gpt", GOOD)], "rejected": [said("gpt", BAD)]}
    ),
    "parts.jsonl": lines(
        {
            "prompt": [said("user", part(ASK))],
            "chosen": [said("assistant", part(GOOD))],
            "rejected": [said("assistant", part(BAD))],
        }
    ),
    "transcripts.jsonl": lines(
        {side: f"\n\nHuman: {ASK}\n\nAssistant: {text}" for side, text in (("chosen", GOOD), ("rejected", BAD))}
    ),
    "template.jsonl": lines(
        {"prompt": f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n", "chosen": GOOD, "rejected": BAD}
    ),
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "short-row.csv": (table() + b"a,b\n", "short-row.csv:4: 2 cells; expected 3"),
    "open-quote.csv": (b'prompt,chosen,rejected\na,b,c\nq,"never closed,x\n', "open-quote.csv:3: not CSV"),
    "two-names.csv": (b"prompt,chosen,chosen\na,b,c\n", "two-names.csv:1: two columns are named 'chosen'"),
    "latin.csv": ("prompt,chosen,rejected\na,b,c\nq,für,x\n".encode("latin-1"), "latin.csv:3: not UTF-8"),
    "workbook.csv": (b"PK\x03\x04" + bytes(40), "workbook.csv: a zip file, perhaps an Excel workbook"),
    "zero.csv": (b"prompt,chosen,rejected\na,b\0,c\n", "zero.csv:2: holds a zero byte"),
    "json.csv": (lines(TRL), "json.csv: JSON, though"),
    "one-column.csv": (b"prompt\nq\n", "one-column.csv:2: columns not recognised"),
    "empty-cell.csv": (
        b"prompt,chosen,rejected\nq,a,b\nr,,b\n",
        "empty-cell.csv:3: chosen: expected text, got an empty",
    ),
    "long-header.csv": (b"a" * 200_000, "long-header.csv:1: 200,000 characters in the first line"),
    "header-alone.csv": (b"prompt,chosen,rejected\n", "header-alone.csv:1: expected at least one row"),
    "images.jsonl": (
        lines(TRL, {**TRL, "prompt": [said("user", [*part("?"), {"type": "image_url", "image_url": {"url": "x"}}])]}),
        "images.jsonl:2: prompt.0.content.1: a part of type 'image_url' can't be read",
    ),
    "image-column.jsonl": (lines({**TRL, "images": ["a.png"]}), "image-column.jsonl:1: images: belongs to the prompt"),
    "tools.jsonl": (lines({**OPENAI, "input": {"messages": [TURN], "tools": [{"type": "function"}]}}), ":1: tools: "),
    "tool-calls.jsonl": (
        lines({**TRL, "prompt": [TURN, {**said("assistant", ""), "tool_calls": [{"id": "1"}]}, TURN]}),
        ":1: prompt.1: messages with tool_calls can't be read",
    ),
    "observation.json": (
        json.dumps(
            [{**SHARE, "conversations": [share("human", "?"), share("observation", "3"), share("human", "?")]}]
        ).encode(),
        "observation.json, row 1: prompt.1: a turn of 'observation': calls of tools",
    ),
    "prefill.jsonl": (lines({**TRL, "prompt": [TURN, said("assistant", "It")]}), "an answer that is already begun"),
    "prefix.jsonl": (
        lines({**TRL, "chosen": [{**said("assistant", GOOD), "prefix": True}]}),
        ":1: chosen.0: prefix: an answer that is already begun can't be read",
    ),
    "history-text.jsonl": (
        lines({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "history": "as before"}),
        ":1: history: expected a list of",
    ),
    "unpaired.jsonl": (lines({"prompt": ASK, "completion": GOOD, "label": True}), "single answers with a label"),
    "supervised.jsonl": (lines({"messages": [TURN, said("assistant", GOOD)]}), "for supervised training"),
    "winner.csv": (b"prompt,answer_a,answer_b,winner\nq,a,b,a\n", "a column that names the better answer isn't read"),
    "swift-ends-wrong.jsonl": (
        lines({**SWIFT, "messages": [TURN, TURN]}),
        ":1: messages: expected a conversation that",
    ),
    "roles.jsonl": (lines({**TRL, "prompt": [said("narrator", ASK)]}), ":1: prompt.0: expected {role"),
    "deep.jsonl": (b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}\n", "deep.jsonl:1: not JSON (lists or objects more"),
}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def pairs(path: Path) -> list[PreferencePair]:
    name = "parquet" if is_parquet(path) else "csv" if is_delimited(path) else "jsonl"
    seed = build("seed", {"name": name, "path": str(path)})
    assert isinstance(seed, Seed)
    return seed.pairs()


@pytest.mark.parametrize("name", READ)
def test_every_form_is_the_same_pair(name: str, tmp_path: Path) -> None:
    (pair,) = pairs(written(tmp_path, name, READ[name]))
    assert [(m.role, m.content) for m in pair.messages] == [("user", ASK)]
    assert (pair.chosen, pair.rejected) == (GOOD, BAD)


@pytest.mark.parametrize("name", ["openai.jsonl", "swift.jsonl", "parts.jsonl", "llama-factory.json"])
def test_every_form_is_the_same_pair_in_parquet(name: str, tmp_path: Path) -> None:
    text = READ[name].decode()
    rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    for row in rows:
        row.get("input", {}).pop("tools", None)  # Parquet has no type for a list without any item
    path = tmp_path / "pairs.parquet"
    pd.DataFrame(rows).to_parquet(path)
    (pair,) = pairs(path)
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == (ASK, GOOD, BAD)


def said_of(path: Path) -> str:
    """What is said about a file of which nothing is read: one line, which begins with the file."""
    with pytest.raises(DataError) as caught:
        pairs(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    return message


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line(name: str, tmp_path: Path) -> None:
    content, expected = REFUSED[name]
    assert expected in said_of(written(tmp_path, name, content))


def test_what_a_row_was_written_in_is_counted(tmp_path: Path) -> None:
    rows = [{**OPENAI, "note": "x"}, {**OPENAI, "input": {"messages": [said("developer", "Be brief."), TURN]}}]
    seed = build("seed", {"name": "jsonl", "path": str(written(tmp_path, "x.jsonl", lines(*rows)))})
    assert isinstance(seed, Seed)
    assert [m.role for m in seed.pairs()[1].messages] == ["system", "user"]
    remarks = seed.remarks()
    assert remarks["read_as"] == {"columns of OpenAI's preference rows": 2, "messages of developer": 1}
    assert remarks["ignored_columns"] == {"note": 1, "parallel_tool_calls": 1}


def test_earlier_turns_of_a_table_are_read(tmp_path: Path) -> None:
    row = {"query": ASK, "response": GOOD, "rejected_response": BAD, "history": json.dumps([["Hi", "Hello"]])}
    path = written(tmp_path, "turns.csv", pd.DataFrame([row]).to_csv(index=False).encode())
    assert [m.content for m in pairs(path)[0].messages] == ["Hi", "Hello", ASK]


def test_chosen_and_rejected_count_before_other_trainers_columns(tmp_path: Path) -> None:
    row = {
        "prompt": ASK,
        "chosen": GOOD,
        "rejected": BAD,
        **SWIFT,
        "rejected_response": "other",
        "preferred_output": [],
    }
    (pair,) = pairs(written(tmp_path, "both.jsonl", lines(row)))
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == (ASK, GOOD, BAD)


def test_a_table_is_named_where_jsonl_is_expected(tmp_path: Path) -> None:
    seed = build("seed", {"name": "jsonl", "path": str(written(tmp_path, "x.csv", table()))})
    assert isinstance(seed, Seed)
    with pytest.raises(DataError, match=r"use \{name: csv\} instead"):
        seed.pairs()


def test_a_text_that_begins_like_json_stays_text(tmp_path: Path) -> None:
    row = {"instruction": "Sort it.", "input": "[3, 1, 2]", "chosen": "[1, 2, 3]", "rejected": "{}", "history": ""}
    path = written(tmp_path, "sort.csv", pd.DataFrame([row]).to_csv(index=False).encode())
    (pair,) = pairs(path)
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == ("Sort it.\n\n[3, 1, 2]", "[1, 2, 3]", "{}")
