"""Seed pairs from a file: identity by content, and checks before anything is read in full."""

import gzip
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import DataError
from harness.protocols import Origin
from harness.seeds.jsonl import Jsonl

ROW = '{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}\n'


def from_file(path: Path, **fields: object) -> Jsonl:
    component = build("seed", {"name": "jsonl", "path": path.name, **fields}, {"base": path.parent})
    assert isinstance(component, Jsonl)
    return component


def test_a_path_is_relative_to_the_recipe_and_names_the_source(tmp_path: Path) -> None:
    (tmp_path / "sums.v2.jsonl").write_text(ROW)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(ROW.encode()))
    assert [p.source for p in from_file(tmp_path / "sums.v2.jsonl").pairs()] == ["sums.v2"]
    assert [p.source for p in from_file(tmp_path / "packed.jsonl.gz").pairs()] == ["packed"]


def test_identity_is_the_content_and_the_options(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(ROW)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(ROW.encode()))
    a, b, packed = (from_file(tmp_path / n).identity() for n in ("a.jsonl", "b.jsonl", "a.jsonl.gz"))
    assert a == b == packed
    assert str(tmp_path) not in json.dumps(a)
    assert from_file(tmp_path / "a.jsonl", limit=1).identity() != a
    assert from_file(tmp_path / "a.jsonl", weight=0.5).identity() != a
    (tmp_path / "b.jsonl").write_text(ROW.replace("4", "four"))
    assert from_file(tmp_path / "b.jsonl").identity() != a


def test_check_looks_at_every_row(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(ROW + "nonsense\n")
    for look in (from_file(path).check, from_file(path).pairs):
        with pytest.raises(DataError, match=r"x\.jsonl:2: not JSON"):
            look()
    from_file(path, limit=1).check()
    path.write_text("nonsense\n")
    with pytest.raises(DataError, match=r"x\.jsonl:1: not JSON"):
        from_file(path).check()
    with pytest.raises(DataError, match=r"y\.jsonl: no such file; .*did you mean 'x\.jsonl'"):
        from_file(tmp_path / "y.jsonl").check()


@pytest.mark.parametrize("weight", [0, -1, 1.5, float("nan")])
def test_a_weight_is_a_share(tmp_path: Path, weight: float) -> None:
    with pytest.raises(ValidationError, match="weight"):
        from_file(tmp_path / "x.jsonl", weight=weight)


def test_a_json_list_and_columns_by_name(tmp_path: Path) -> None:
    path = tmp_path / "sums.json"
    path.write_text(json.dumps([{"q": "2 + 2?", "yes": "4", "no": "5"}]))
    columns = {"prompt": "q", "chosen": "yes", "rejected": "no"}
    (pair,) = from_file(path, columns=columns).pairs()
    assert (pair.messages[0].content, pair.chosen, pair.rejected, pair.source) == ("2 + 2?", "4", "5", "sums")
    assert from_file(path, columns=columns).identity() != from_file(path).identity()
    assert from_file(path, licence="MIT").identity() == from_file(path).identity()
    assert from_file(path, licence="MIT").origin == Origin("MIT", home=None)
    assert from_file(path).origin == Origin(None, home=None)
