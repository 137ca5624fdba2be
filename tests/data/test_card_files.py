"""A hub dataset's card can't lead out of its folder."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.card_files import check_card, check_files, check_inside
from harness.errors import DataError

CARD = "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files: {}\n---\n# Pairs\n"


@pytest.mark.parametrize(
    "named",
    [
        "http://127.0.0.1:9/x.jsonl", "https://host/x.jsonl", "hf://datasets/a/b/x.jsonl", "s3://a/x", "file:///etc/x",
        "zip://x.jsonl::a.zip", "/etc/passwd", "../x.jsonl", "a/../../x.jsonl", "~/x.jsonl", "..", "a\\..\\..\\x",
    ],
)  # fmt: skip
def test_addresses_and_other_folders_are_refused_wherever_they_stand(named: str, tmp_path: Path) -> None:
    for form in ("'{}'", "['a.jsonl', '{}']", "[{{split: train, path: '{}'}}]", "[{{split: t, path: ['{}']}}]"):
        (tmp_path / "README.md").write_text(CARD.format(form.format(named)))
        with pytest.raises(DataError, match=r"README\.md: names the data files .*; expected files of its own folder"):
            check_card(tmp_path)
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: a\n  data_dir: '{named}'\n---\n")
    with pytest.raises(DataError, match="expected files of its own folder"):
        check_card(tmp_path)
    (tmp_path / "README.md").unlink()
    (tmp_path / ".huggingface.yaml").write_text(f"configs:\n- config_name: a\n  data_files: '{named}'\n")
    with pytest.raises(DataError, match=r"\.huggingface\.yaml: names the data files"):
        check_card(tmp_path)
    with pytest.raises(DataError, match="data_dir: names the data files"):
        check_inside(named, "data_dir")


@pytest.mark.parametrize("named", ["a.jsonl", '"*.jsonl"', "data/**", "[{split: train, path: [a-*.parquet, b.json]}]"])
def test_ordinary_cards_are_fine(named: str, tmp_path: Path) -> None:
    for text in (CARD.format(named), "# No header\n", "---\nlicense: mit\n---\n", "", "\ufeff" + CARD.format(named)):
        (tmp_path / "README.md").write_text(text)
        check_card(tmp_path)
    (tmp_path / "README.md").unlink()
    check_card(tmp_path)


def test_cards_that_are_no_cards(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))

    def linked(path: Path) -> None:
        (tmp_path / "secret").write_text("SECRET")
        path.symlink_to(tmp_path / "secret")

    kinds: list[Callable[[Path], object]] = [
        lambda path: path.write_text(f"---\n{bomb}---\n"), os.mkfifo, Path.mkdir, linked
    ]  # fmt: skip
    for i, make in enumerate(kinds):
        folder = tmp_path / str(i)
        folder.mkdir()
        make(folder / "README.md")
        with pytest.raises(DataError, match=r"README\.md: can't be read") as caught:
            check_card(folder)
        assert "SECRET" not in str(caught.value)


def test_data_files_are_regular_files_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.outside.FREELY_UNPACKED", 4 << 20)
    folder = tmp_path / "copy"
    (folder / ".hidden").mkdir(parents=True)
    for path in (folder / "a.jsonl", folder / ".hidden" / "a.jsonl", tmp_path / "b.jsonl"):
        path.write_text("{}\n")
    (folder / "link.jsonl").symlink_to(tmp_path / "b.jsonl")
    (folder / "inner.jsonl").symlink_to(folder / "a.jsonl")
    (folder / "bomb.jsonl.gz").write_bytes(gzip.compress(b"0" * (8 << 20)))
    check_files(folder, [str(folder / "a.jsonl"), str(folder / "inner.jsonl")])
    for file, said in [
        (folder / "link.jsonl", "leads out of"),
        (tmp_path / "b.jsonl", "not in the dataset's folder"),
        ("https://host/x.jsonl", "not in the dataset's folder"),
        (folder / ".hidden" / "a.jsonl", "a hidden file"),
        (folder / "bomb.jsonl.gz", "unpacks to more than"),
    ]:
        with pytest.raises(DataError, match=said):
            check_files(folder, [str(file)])
