"""Seed pairs from Parquet."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from harness.components import build
from harness.errors import DataError
from harness.protocols import Origin
from harness.seeds.parquet import Parquet


def row(i: int) -> dict[str, Any]:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"question {i}"}]
    return {"talk": talk, "good": f"good {i}", "bad": f"bad {i}", "topic": "writing"}


def from_path(path: Path, **fields: Any) -> Parquet:
    component = build("seed", {"name": "parquet", "path": path.name, **fields}, {"base": path.parent})
    assert isinstance(component, Parquet)
    return component


COLUMNS = {"prompt": "talk", "chosen": "good", "rejected": "bad", "category": "topic"}


def test_a_file_and_a_folder_of_shards(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(0), row(1)]), folder / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(2)]), folder / "b.parquet")
    seed = from_path(folder, columns=COLUMNS)
    seed.check()
    assert [m.model_dump() for p in seed.pairs() for m in p.messages] == [m for i in range(3) for m in row(i)["talk"]]
    assert [(p.chosen, p.rejected, p.category) for p in seed.pairs()] == [
        (row(i)["good"], row(i)["bad"], "writing") for i in range(3)
    ]
    assert {p.source for p in seed.pairs()} == {"shards"}
    one = from_path(folder / "a.parquet", columns=COLUMNS)
    assert {p.source for p in one.pairs()} == {"a"}
    assert [p.id for p in one.pairs()] == [p.id for p in seed.pairs()[:2]]
    assert (one.origin, from_path(folder, licence="MIT").origin) == (Origin(), Origin("MIT"))


def test_rows_and_files_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(0), {**row(1), "bad": None}]), path)
    with pytest.raises(DataError, match=r"x\.parquet, row 2: bad: expected text, got null"):
        from_path(path, columns=COLUMNS).check()
    with pytest.raises(DataError, match=r"columns not recognised: .*; got bad, good, talk, topic"):
        from_path(path).check()
    with pytest.raises(DataError, match=r"y\.parquet: no such file; .* did you mean 'x\.parquet'\?"):
        from_path(tmp_path / "y.parquet").check()
    text = tmp_path / "x.jsonl"
    text.write_text('{"prompt": "Hi", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(DataError, match=r"not a Parquet file; use \{name: jsonl\}"):
        from_path(text).check()
    with pytest.raises(DataError, match=r"a Parquet file, expected JSONL; use \{name: parquet\}"):
        build("seed", {"name": "jsonl", "path": str(path)}).check()
