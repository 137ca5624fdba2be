"""`harness leaks` and `harness import` take the files that a recipe's seed set takes, without being told their form."""

import json
from pathlib import Path

import pandas as pd
import pytest

from harness.data.columns.imported import form_of
from harness.data.convert import import_, read_ranked
from harness.data.leak_check import read_prompts
from harness.errors import DataError
from tests.data.own.test_own_files import ASK, BAD, GOOD, OPENAI, READ, REFUSED, TRL, lines, table, written

TRANSCRIPT = "template.jsonl"  # of a prompt in a chat template, the whole text is compared


@pytest.mark.parametrize("name", sorted(READ.keys() - {TRANSCRIPT}))
def test_leaks_finds_the_prompt(name: str, tmp_path: Path) -> None:
    ((_, text),) = read_prompts(written(tmp_path, name, READ[name]))
    assert text == ASK


@pytest.mark.parametrize("name", READ)
def test_import_finds_the_columns(name: str, tmp_path: Path) -> None:
    path, out = written(tmp_path, name, READ[name]), tmp_path / "out.jsonl"
    assert form_of(path) == "trl"
    import_(path, out, "trl")
    (example,) = read_ranked(out)
    assert [m.content for m in example.messages] == [ASK]
    assert [(r.text, r.rank) for r in example.responses] == [(GOOD, 1), (BAD, 2)]


@pytest.mark.parametrize("name", ["images.jsonl", "tools.jsonl", "short-row.csv", "swift-ends-wrong.jsonl"])
def test_import_refuses_what_a_seed_set_refuses(name: str, tmp_path: Path) -> None:
    content, expected = REFUSED[name]
    with pytest.raises(DataError) as caught:
        import_(written(tmp_path, name, content), tmp_path / "out.jsonl", "trl")
    assert expected in str(caught.value)


def test_import_knows_rankings_by_their_columns(tmp_path: Path) -> None:
    rows = {
        "simpo": {"prompt": ASK, "all_generated_responses": [GOOD, BAD], "all_rm_scores": [2, 1]},
        "nemo-rl": {"context": [{"role": "user", "content": ASK}], "completions": [{"rank": 0, "completion": GOOD}]},
        "ultrafeedback": {"instruction": ASK, "completions": [{"response": GOOD, "overall_score": 1.0}]},
        "nectar": {"prompt": f"\n\nHuman: {ASK}\n\nAssistant: ", "answers": [{"answer": GOOD, "rank": 1}]},
    }
    for form, row in rows.items():
        assert form_of(written(tmp_path, f"{form}.jsonl", lines(row))) == form
    import_(tmp_path / "simpo.jsonl", tmp_path / "out.jsonl", "simpo")
    assert form_of(tmp_path / "out.jsonl") == "jsonl"


def test_leaks_names_the_line_or_the_row(tmp_path: Path) -> None:
    rows = pd.DataFrame([{"prompt": "a\nb"}, {"prompt": "c"}]).assign(chosen="x", rejected="y")
    rows.to_csv(tmp_path / "lines.csv", index=False)
    assert read_prompts(tmp_path / "lines.csv") == [(2, "a\nb"), (4, "c")]
    rows.to_parquet(tmp_path / "rows.parquet")
    assert read_prompts(tmp_path / "rows.parquet") == [(1, "a\nb"), (2, "c")]
    (tmp_path / "list-7.json").write_text(json.dumps([TRL, OPENAI]))
    assert read_prompts(tmp_path / "list-7.json") == [(1, ASK), (2, ASK)]
    assert read_prompts(written(tmp_path, "texts.jsonl", b'"one"\n\n"two"\n')) == [(1, "one"), (3, "two")]


def test_leaks_names_a_row_without_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", table().replace(b"prompt", b"answer"))
    with pytest.raises(DataError, match=r"x\.csv:2: no prompt; expected a text or one of the columns prompt, question"):
        read_prompts(path)
