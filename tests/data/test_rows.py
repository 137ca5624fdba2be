"""Rows of JSONL, JSON lists and Parquet, against what `datasets` reads from the same files."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.data.rows import file_rows, files_sha256, json_rows
from harness.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"prompt": [{"role": "user", "content": f"question {i} \u2028 é"}], "chosen": f"a{i}", "rejected": None, "n": i}
    for i in range(3)
]


def written(folder: Path) -> dict[str, Path]:
    import pyarrow
    import pyarrow.parquet

    paths = {name: folder / name for name in ("rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.json.gz")}
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    paths["rows.jsonl"].write_bytes(lines)
    paths["rows.jsonl.gz"].write_bytes(gzip.compress(lines))
    paths["rows.json"].write_text(json.dumps(ROWS, indent=1))
    paths["rows.json.gz"].write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    paths["rows.parquet"] = folder / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), paths["rows.parquet"])
    return paths


def test_every_form_has_the_same_rows(tmp_path: Path) -> None:
    for name, path in written(tmp_path).items():
        assert [row for _, row in file_rows([path])] == ROWS, name
        places = [place for place, _ in file_rows([path])]
        assert places[1] == f"{path}:2" if "jsonl" in name else places[1] == f"{path}, row 2"


def test_parquet_and_json_as_datasets_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, path in written(tmp_path).items():
        kind = "parquet" if "parquet" in name else "json"
        theirs = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
        assert [row for _, row in file_rows([path])] == list(theirs)


def test_shards_are_one_set(tmp_path: Path) -> None:
    paths = list(written(tmp_path).values())
    assert [row for _, row in file_rows(paths)] == ROWS * len(paths)
    one, two = files_sha256(paths[:1]), files_sha256(paths[:2])
    assert one == files_sha256(paths[2:3])  # unpacked, the same
    assert len({one, two, files_sha256(paths[1::-1])}) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", r"f: not JSON .*; expected a JSON list of objects"),
        (b'[{"a": 1},\n {"a": ]', r"f: not JSON \(.* at line 2\)"),
        (b'[{"a": 1}, 2]', "f, row 2: expected a JSON object, got a number"),
        (b'{"a": 1}\n3', "f:2: expected a JSON object, got a number"),
        (b"[" * 100_000, "f: not JSON"),
    ],
)
def test_damaged_json(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(json_rows(content, "f"))
    assert "\n" not in str(caught.value)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = written(tmp_path)["rows.parquet"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"rows\.parquet: not a readable Parquet file .*; write it again") as caught:
        list(file_rows([path]))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"raws\.parquet: no such file; .*; did you mean 'rows\.parquet'\?"):
        list(file_rows([tmp_path / "raws.parquet"]))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(encoding: str, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in ROWS)
    for name, text in (("rows.jsonl", lines), ("rows.json", json.dumps(ROWS))):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert [row for _, row in file_rows([tmp_path / name])] == ROWS


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"n": 1e999}', "out of range"),
        ('{"n": Infinity}', "Infinity is not a figure"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ('{"a": ' + "[" * 101 + "]" * 101 + "}", "more than 100 levels deep"),
        ('{"n": ' + "9" * 41 + "}", "an integer of 41 characters"),
    ],
)
def test_json_that_is_refused_names_its_line(line: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"^f:2: not JSON \(.*{said}") as caught:
        list(json_rows(f'{{"a": NaN}}\n{line}\n'.encode(), "f"))
    assert "\n" not in str(caught.value)
    assert next(json_rows(b'{"a": NaN}', "f"))[1] == {"a": None}  # as pandas writes an empty cell


def test_what_is_no_file_or_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    for module in ("harness.outside", "harness.data.rows"):
        monkeypatch.setattr(f"{module}.FREELY_UNPACKED", 4 << 20)
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b"0" * (8 << 20)))
    indices = pa.array([0] * 400, pa.int32())
    repeated = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * (1 << 16)]))
    pyarrow.parquet.write_table(pa.table({"prompt": repeated}), tmp_path / "bomb.parquet", store_schema=False)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "link.jsonl").symlink_to(written(tmp_path)["rows.jsonl"])
    for path, said in [
        (tmp_path / "fifo.jsonl", "it is a FIFO"),
        (Path("/dev/zero"), "it is a device"),
        (tmp_path / "inner", "it is a folder"),
        (tmp_path / "inner" / "link.jsonl", "it leads out of"),
        (tmp_path / "bomb.jsonl.gz", "it unpacks to more than"),
        (tmp_path / "bomb.parquet", "unpacks to more than"),
    ]:
        with pytest.raises(DataError, match=said):
            list(file_rows([path]))
