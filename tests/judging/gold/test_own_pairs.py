"""`harness label` on a file of preference pairs: a page without the file's preference, and what people prefer."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.components import build
from harness.errors import HarnessError
from harness.protocols import Seed

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
LONGER = [*TURNS, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "And?"}]


def lines(*arguments: str | Path) -> list[str]:
    done = CliRunner().invoke(app, ["label", *map(str, arguments)], env={"COLUMNS": "200"})
    if done.exception is not None:
        raise done.exception
    return done.output.splitlines()


def rows(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Q{i}\n<b>?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


def table(folder: Path, count: int = 30, name: str = "my pairs.csv") -> Path:
    pd.DataFrame(rows(count)).to_csv(folder / name, index=False)
    return folder / name


def key_of(file: Path) -> dict[str, Any]:
    (path,) = Path(f"{file}.labels").glob("*.key.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def saved(file: Path, who: str, choices: dict[int, str]) -> Path:
    """What somebody saves who agrees with the file, but for `choices`: other, tie or skip by the number of the pair."""
    key, labels = key_of(file), {}
    for item in key["items"]:
        other = {"left": "right", "right": "left"}[item["row_is"]]
        choice = choices.get(item["number"], item["row_is"])
        labels[str(item["number"])] = other if choice == "other" else choice
    path = file.parent / f"{who}.json"
    path.write_text(json.dumps({"harness_labels": 1, "page": key["id"], "annotator": who, "labels": labels}))
    return path


def pairs_of(page: Path) -> list[dict[str, Any]]:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert data is not None
    return json.loads(data[1])["pairs"]  # type: ignore[no-any-return]


def test_the_page_hides_what_the_file_prefers(tmp_path: Path) -> None:
    file, page = table(tmp_path, 60), tmp_path / "page.html"
    assert lines(file, "--pairs", "50", "-o", page)[0] == f"{page}: 50 of 60 pairs of {file}"
    shown, items = pairs_of(page), key_of(file)["items"]
    assert not {"chosen", "rejected", "my pairs"} & {
        w for w in ("chosen", "rejected", "my pairs") if w in page.read_text()
    }
    assert all(set(pair) == {"n", "turns", "left", "right"} for pair in shown)
    assert {pair["turns"][0] for pair in shown} <= {row["prompt"] for row in rows(60)}
    for pair, item in zip(shown, items, strict=True):
        other = {"left": "right", "right": "left"}[item["row_is"]]
        assert (pair[item["row_is"]][0].split()[0], pair[other][0].split()[0]) == ("good", "bad")
    assert min(Counter(item["row_is"] for item in items).values()) >= 7  # the chance of fewer of 50 is below 1e-7
    order = [int(pair["turns"][0][1:].split()[0]) for pair in shown]
    assert order != sorted(order)


def test_how_often_people_prefer_what_the_file_prefers(tmp_path: Path) -> None:
    file, out = table(tmp_path), tmp_path / "fixed.jsonl"
    lines(file)
    ada = saved(file, "ada", {1: "other", 2: "other", 3: "tie", 4: "skip", 5: "tie"})
    bob = saved(file, "bob", {1: "other", 2: "tie", 3: "tie", 4: "skip", 6: "other"})
    printed = lines(file, "--read", ada, "--read", bob, "-o", out)
    exact = binomtest(25, 27).proportion_ci(method="exact")
    interval = f"95 % CI [{100 * exact.low:.1f}, {100 * exact.high:.1f}]"
    name = file.name
    assert (
        printed[0]
        == f"ada prefers what {name} prefers in 25 of 27 pairs: 92.6 %, {interval}; 2 ties, 1 skipped or not reached"
    )
    assert printed[1].startswith(f"bob prefers what {name} prefers in 25 of 27 pairs: ")
    # 1 and 2: rejected; 3: a tie; 4: nobody; 6: one of each, a tie.
    assert printed[2].startswith(f"the majority prefers what {name} prefers in 25 of 27 pairs: ")
    assert "; 2 ties, 1 skipped" in printed[2]
    assert printed[3].startswith("ada and bob: 26 of 29 pairs alike, Cohen's kappa 0.")
    key = key_of(file)
    written = [json.loads(line) for line in Path(f"{file}.labels/{key['id']}.jsonl").read_text().splitlines()]
    assert [row["preferred"] for row in written[:6]] == ["rejected", "rejected", "tie", None, "chosen", "tie"]
    assert written[1]["labels"] == {"ada": "rejected", "bob": "tie"}
    text = file.read_text().split("\n")
    for row in written:
        start, line = row["at"].rpartition(":")[::2]
        assert start == name
        assert text[int(line) - 1].strip('"') == row["prompt"][0]["content"].split("\n")[0]
    turned = {row["prompt"][0]["content"] for row in written[:2]}
    ties = {written[i]["prompt"][0]["content"] for i in (2, 5)}
    seed = build("seed", {"name": "jsonl", "path": str(out)})
    assert isinstance(seed, Seed)
    fixed = {pair.messages[0].content: pair for pair in seed.pairs()}
    assert fixed.keys() == {row["prompt"] for row in rows(30)} - ties
    assert {prompt for prompt, pair in fixed.items() if pair.chosen.startswith("bad")} == turned
    assert printed[-1] == f"{out}: 28 pairs, 2 of them the other way round; 2 ties are left out"


def test_conversations_and_other_columns(tmp_path: Path) -> None:
    file, page = tmp_path / "x.jsonl", tmp_path / "page.html"
    answers = {"good": [{"role": "assistant", "content": "a"}], "bad": [{"role": "assistant", "content": "b"}]}
    file.write_text("".join(json.dumps({"ask": ask, **answers}) + "\n" for ask in (TURNS, LONGER)))
    printed = lines(file, "--columns", "prompt=ask,chosen=good,rejected=bad", "--out", page)
    assert printed[-1] == f"Then: harness label {file} --columns prompt=ask,chosen=good,rejected=bad --read FILE"
    assert {pair["turns"][0] for pair in pairs_of(page)} == {
        "System: Be brief.\n\nUser: Hi",
        "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: And?",
    }


def test_what_does_not_fit(tmp_path: Path) -> None:
    file, other = table(tmp_path, 4), table(tmp_path, 4, "other.csv")
    lines(file)
    ada = saved(file, "ada", {})
    for arguments, said in (
        ((file, "--rows", "dpo"), "pairs have no rows and benchmarks"),
        ((other, "--read", ada), "was not written for .*other.csv; its pages: none"),
        ((file, "--read", ada, "-o", file), "is the file of pairs itself"),
        ((tmp_path / "none.csv",), "none.csv: no such file"),
        ((tmp_path / "none",), "none does not exist; expected a board's folder"),
        ((tmp_path, "--columns", "prompt=a"), "--columns is for files of pairs"),
        ((table(tmp_path, 1, "one.csv"),), "one pair; expected at least two to label"),
    ):
        with pytest.raises(HarnessError, match=said) as caught:
            lines(*arguments)
        assert "\n" not in str(caught.value)
    table(tmp_path, 3)
    with pytest.raises(HarnessError, match="have changed since page"):
        lines(file, "--read", ada)
