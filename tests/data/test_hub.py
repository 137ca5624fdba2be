"""`harness export --push-to-hub`, by the real command and the real huggingface_hub against a fake hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.augmentation.card import card
from harness.data.convert import write
from harness.data.formats import ranked
from harness.types import Message
from tests.fake_upload_hub import UploadHub, upload_hub

ROOT = Path(__file__).parents[2]
TOKEN = "hf_notARealOne123"


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    with upload_hub(TOKEN) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the dataset's stage leaves it, the store's record included."""
    made = tmp_path / "data"
    made.mkdir()
    rows = [ranked((Message(role="user", content=f"q{i}"),), ["a", "b"], [1.0, 0.0], ["s"] * 2, "x") for i in range(3)]
    heldout = rows[2].model_copy(update={"split": "heldout"})
    write(made / "ranked.jsonl", [r.model_dump(mode="json") for r in rows[:2]], native=True)
    write(made / "heldout.jsonl", [heldout.model_dump(mode="json")], native=True)
    facts = {"ranked": {"train_prompts": 2, "heldout_prompts": 1, "responses": 4}}
    (made / "README.md").write_text(card("x", facts, [], {}, None), encoding="utf-8")
    (made / "artifact.json").write_text("{}")
    return made


def push(folder: Path, *arguments: str, url: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", "export", str(folder), *arguments]
    env = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    env |= {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": url, "HF_HOME": str(folder.parent / "hf")}
    env |= {"HF_TOKEN": token} if token is not None else {}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert token is None or token.strip() == "" or token.strip() not in done.stdout + done.stderr
    return done


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_card_and_the_rows_are_there_after_one_commit(hub: UploadHub, folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    done = push(folder, "--push-to-hub", "me/mine", "--split", "all", url=hub.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{hub.url}/datasets/me/mine/commit/")
    assert hub.private == {"me/mine": False}
    (files,) = hub.commits["me/mine"]
    assert files == {n: (folder / n).read_bytes() for n in ("README.md", "ranked.jsonl", "heldout.jsonl")}
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in files.items():
        (copy / name).write_bytes(content)
    loaded = load_dataset(str(copy), cache_dir=str(tmp_path / "c"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 2, "test": 1}
    again = push(folder, "--push-to-hub", "me/mine", "--split", "all", url=hub.url)
    assert again.returncode == 0
    assert len(hub.commits["me/mine"]) == 2


def test_what_is_to_be_private_never_goes_where_all_can_read_it(hub: UploadHub, folder: Path) -> None:
    assert push(folder, "--push-to-hub", "me/new", "--private", url=hub.url).returncode == 0
    assert hub.private["me/new"] is True
    hub.private["me/old"] = False
    said = refused(push(folder, "--push-to-hub", "me/old", "--private", url=hub.url))
    assert "already exists and is public" in said
    assert "me/old" not in hub.commits


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "no stored login"),
        (" ", "HF_TOKEN is not set"),
        ("hf_other456", "may not write"),
        ("a\nb", "not a token"),
    ],
)
def test_a_token_that_is_not_enough(token: str | None, said: str, hub: UploadHub, folder: Path) -> None:
    assert said in refused(push(folder, "--push-to-hub", "me/mine", url=hub.url, token=token))
    assert hub.commits == {}


def test_the_stored_login_counts(hub: UploadHub, folder: Path) -> None:
    """As `hf auth login` stores it; a token in the variable comes first."""
    stored = folder.parent / "hf" / "token"
    stored.parent.mkdir()
    stored.write_text(TOKEN + "\n")
    assert push(folder, "--push-to-hub", "me/mine", url=hub.url, token=None).returncode == 0
    assert set(hub.files["me/mine"]) == {"README.md", "ranked.jsonl"}  # what is held out isn't asked for
    assert b"heldout.jsonl" not in hub.files["me/mine"]["README.md"]
    assert b"1 held out (kept back" in hub.files["me/mine"]["README.md"]
    assert "may not write" in refused(push(folder, "--push-to-hub", "me/mine", url=hub.url, token="hf_other456"))
    stored.write_text("hf_secret but not a token")
    said = refused(push(folder, "--push-to-hub", "me/mine", url=hub.url, token=None))
    assert "not a token" in said
    assert "hf_secret" not in said


def test_what_the_hub_says_of_the_card_is_told(hub: UploadHub, folder: Path) -> None:
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("license: other", "license: nobodys-1.0"))
    assert '"license" must be one of' in refused(push(folder, "--push-to-hub", "me/mine", url=hub.url))
    assert hub.commits == {}


def test_a_hub_that_is_not_there(folder: Path) -> None:
    assert "not uploaded" in refused(push(folder, "--push-to-hub", "me/mine", url="http://127.0.0.1:9"))


def test_what_is_no_dataset_or_no_name(hub: UploadHub, folder: Path) -> None:
    assert "expected OWNER/NAME" in refused(push(folder, "--push-to-hub", "mine", url=hub.url))
    mixed = refused(push(folder, "--push-to-hub", "me/mine", "--split", "heldout", url=hub.url))
    assert "leave out -o" in mixed
    assert "--private: only with" in refused(push(folder, "-o", "x.jsonl", "--private", url=hub.url))
    assert "expected -o FILE" in refused(push(folder, url=hub.url))
    assert "with ranked.jsonl and its card" in refused(
        push(folder / "ranked.jsonl", "--push-to-hub", "me/mine", url=hub.url)
    )
    with (folder / "ranked.jsonl").open("a") as file:
        file.write("{}\n")
    assert "ranked.jsonl:3: " in refused(push(folder, "--push-to-hub", "me/mine", url=hub.url))
    assert hub.commits == {}


@pytest.mark.parametrize("name", ["README.md", "ranked.jsonl", "heldout.jsonl"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_never_uploaded(name: str, inside: bool, hub: UploadHub, folder: Path, tmp_path: Path) -> None:
    secret = (folder if inside else tmp_path) / "secret"
    (folder / name).rename(secret)
    (folder / name).symlink_to(secret)
    said = refused(push(folder, "--push-to-hub", "me/mine", "--split", "all", url=hub.url))
    assert f"{name}: not uploaded (it is a link" in said
    assert hub.commits == {}


def test_only_named_files_are_uploaded(hub: UploadHub, folder: Path) -> None:
    for name in (".env", "notes.md", "ranked.jsonl.bak"):
        (folder / name).write_text("SECRET")
    (folder / "heldout.jsonl").unlink()
    assert push(folder, "--push-to-hub", "me/mine", url=hub.url).returncode == 0
    assert set(hub.commits["me/mine"][0]) == {"README.md", "ranked.jsonl"}
