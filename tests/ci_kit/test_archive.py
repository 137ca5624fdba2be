"""Verdicts between machines: what one has asked, another asks no more; and a stranger's file adds nothing."""

import gzip
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.engine.journal import Journal, content_key
from harness.engine.journal_line import encode
from harness.engine.store import Store
from harness.errors import DataError
from harness.judging.archive import Moved, export_verdicts, import_verdicts
from harness.judging.asker import make_ask
from harness.judging.costs import journal_of
from harness.types import JudgeReply, JudgeRequest, Message
from tests.stand_ins import ScriptedJudge, last_text

TEXTS = [f"question {i}" for i in range(40)]
NAME = f"verdicts-{'0' * 16}.jsonl"


def store_of(folder: Path) -> Store:
    return Store(folder)


def ask(judge: ScriptedJudge, store: Store, shard: str = "") -> list[str]:
    """The replies to all texts."""
    made = make_ask(judge, journal_of(judge, store), concurrency=4, advance=lambda _: None, shard=shard)
    return [reply.text for reply in made([JudgeRequest(messages=(Message(role="user", content=t),)) for t in TEXTS])]


def judge(name: str = "one") -> ScriptedJudge:
    return ScriptedJudge(lambda request: JudgeReply(text=last_text(request).upper()), name)


@pytest.mark.parametrize("shard", ["", "01"])
def test_another_machine_asks_for_nothing_again(tmp_path: Path, shard: str) -> None:
    first, file = store_of(tmp_path / "one"), tmp_path / "verdicts.tar.gz"
    replies = ask(judge(), first, shard)
    ask(judge("two"), first)
    assert export_verdicts(first, file) == Moved(2, 80)
    second, other = store_of(tmp_path / "two"), judge()
    assert import_verdicts(second, file) == Moved(2, 80, 80)
    assert (ask(other, second), other.batches) == (replies, [])
    assert import_verdicts(second, file) == Moved(2, 80, 0)


def test_copied_journals_do_as_well(tmp_path: Path) -> None:
    first, other = store_of(tmp_path / "one"), judge()
    ask(judge(), first)
    (tmp_path / "two").mkdir()
    first.journals.rename(tmp_path / "two" / "journals")
    ask(other, store_of(tmp_path / "two"))
    assert other.batches == []


def test_the_same_verdicts_are_the_same_bytes_wherever_and_in_whatever_order(tmp_path: Path) -> None:
    files = []
    for name, order in (("one", TEXTS), ("two", TEXTS[::-1])):
        store = store_of(tmp_path / name)
        rows = [(content_key(text), JudgeReply(text=text)) for text in order]
        Journal(store.journals / NAME, JudgeReply, column="reply").append(rows, together=name == "two")
        export_verdicts(store, tmp_path / f"{name}.tar.gz")
        files.append((tmp_path / f"{name}.tar.gz").read_bytes())
    assert files[0] == files[1]
    with tarfile.open(fileobj=io.BytesIO(files[0])) as archive:  # as any other program reads it
        assert [(member.name, member.mtime, member.uid) for member in archive] == [(NAME, 0, 0)]


def test_what_the_store_has_stays(tmp_path: Path) -> None:
    stores = [store_of(tmp_path / name) for name in ("one", "two")]
    for store, text in zip(stores, ("theirs", "ours"), strict=True):
        rows = [(content_key(1), JudgeReply(text=text))]
        Journal(store.journals / NAME, JudgeReply, column="reply").append(rows)
    export_verdicts(stores[0], tmp_path / "file.tar.gz")
    assert import_verdicts(stores[1], tmp_path / "file.tar.gz") == Moved(1, 1, 0, 1)
    kept = Journal(stores[1].journals / NAME, JudgeReply, column="reply").rows()
    assert kept[content_key(1)].text == "ours"


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = (0 if link else len(data)), kind, link
            file.addfile(member, io.BytesIO(data))
    return gzip.compress(tar.getvalue())


def line(key: str = content_key(0), **reply: object) -> bytes:
    return encode({"key": key, "reply": {"text": "m", **reply}})


GOOD = line()
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "outside": (lambda: archive((f"../{NAME}", GOOD)), "no journal of verdicts"),
    "absolute": (lambda: archive((f"/tmp/{NAME}", GOOD)), "no journal of verdicts"),
    "other file": (lambda: archive(("hosts.yaml", GOOD)), "'hosts.yaml', which is no journal"),
    "samples": (lambda: archive(("samples-0.jsonl", GOOD)), "no journal of verdicts"),
    "link": (lambda: archive((NAME, b""), kind=tarfile.SYMTYPE, link="/etc/passwd"), "not a regular file"),
    "hard link": (lambda: archive((NAME, b""), kind=tarfile.LNKTYPE, link="/etc/passwd"), "not a regular file"),
    "device": (lambda: archive((NAME, b""), kind=tarfile.CHRTYPE), "not a regular file"),
    "twice": (lambda: archive((NAME, GOOD), (NAME, GOOD)), "is in it twice"),
    "no archive": (lambda: b"hello", "can't be read"),
    "no tar": (lambda: gzip.compress(b"hello" * 300), "not a whole tar.gz"),
    "cut": (lambda: archive((NAME, GOOD * 9000))[:-40], "can't be read"),
    "bomb": (lambda: gzip.compress(bytes(3 << 20), 1), "unpacks to more than"),
    "torn line": (lambda: archive((NAME, GOOD + GOOD[:-20])), "line 2 is not a whole JSON object"),
    "changed": (lambda: archive((NAME, GOOD.replace(b'"m"', b'"M"'))), "line 1 doesn't have the content"),
    "no sum": (lambda: archive((NAME, b'{"key":"x","reply":{"text":"m"}}')), "line 1 is not a verdict's line"),
    "key": (lambda: archive((NAME, line(key="../x"))), "with a key of its own"),
    "key twice": (lambda: archive((NAME, GOOD + GOOD)), "line 2 is not a verdict's line with a key of its own"),
    "batch": (lambda: archive((NAME, encode({"key": content_key(0), "reply": {}, "drop": []}))), "not a verdict's"),
    "field": (lambda: archive((NAME, line(code="x"))), "line 1 has no valid reply"),
    "tokens": (lambda: archive((NAME, line(prompt_tokens=10**30))), "line 1 has no valid reply"),
    "failed": (lambda: archive((NAME, line(error="no"))), "failed reply"),
    "price": (lambda: archive((NAME, line(price=-5.0))), "price below 0"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_and_adds_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.judging.archive.LARGEST", 2 << 20)
    make, said = HOSTILE[name]
    (tmp_path / "file.tar.gz").write_bytes(make())
    store = store_of(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=re.escape(said)) as error:
        import_verdicts(store, tmp_path / "file.tar.gz")
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_bad_journal_refuses_the_others(tmp_path: Path) -> None:
    (tmp_path / "file.tar.gz").write_bytes(archive((NAME, GOOD), (f"verdicts-{'1' * 16}.jsonl", b"{}\n")))
    store = store_of(tmp_path / "store")
    with pytest.raises(DataError):
        import_verdicts(store, tmp_path / "file.tar.gz")
    assert list(store.journals.iterdir()) == []


def test_the_commands(tmp_path: Path) -> None:
    ask(judge(), store_of(tmp_path / "one"))
    file, runner = str(tmp_path / "file.tar.gz"), CliRunner()
    done = runner.invoke(app, ["cache", "export", file, "--journals", "--store", str(tmp_path / "one")])
    assert (done.exit_code, done.output) == (0, f"{file}: 40 verdicts of 1 judge\n")
    done = runner.invoke(app, ["cache", "import", file, "--store", str(tmp_path / "new" / "store")])
    assert (done.exit_code, done.output) == (0, f"{file}: 40 verdicts of 1 judge, 40 of them new\n")
    assert isinstance(runner.invoke(app, ["cache", "export", file]).exception, DataError)
