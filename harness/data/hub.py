"""The Hugging Face hub: uploading a ranked dataset, or files of any kind; resolving and downloading a seed set."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from harness.data.convert import read_ranked
from harness.errors import DataError, HarnessError
from harness.outside import open_file
from harness.printable import first_line, masked, printable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HELDOUT_FILE = "heldout.jsonl"
FILES = ("README.md", "ranked.jsonl", HELDOUT_FILE)
"""The files of a folder that are uploaded, the last one only if that is asked for. Not `artifact.json`, which describes
the machine."""
HELDOUT_SPLIT = f"  - {{split: test, path: {HELDOUT_FILE}}}\n"
HELDOUT_WORDS = f"held out (`{HELDOUT_FILE}`)"
"""How a card names the held-out prompts: in its header, and in its text."""


def push(folder: Path, repo: str, *, private: bool = False, heldout: bool = False) -> str:
    """Upload the card and the rows of a dataset's folder to the hub dataset `repo` (`OWNER/NAME`) in one commit, as
    `upload` does. `heldout`: also the held-out prompts; without them, the card doesn't name their file. Returns the
    commit's URL. Raises DataError."""
    _check_name(repo)
    if not (folder / "README.md").is_file() or not (folder / "ranked.jsonl").is_file():
        raise DataError(f"{folder}: expected a dataset's folder, with ranked.jsonl and its card, README.md")
    here = [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]
    names = [name for name in here if heldout or name != HELDOUT_FILE]
    for name in names:
        _own_file(folder / name).close()
    read_ranked(folder)  # don't upload what can't be read back
    from huggingface_hub import CommitOperationAdd

    def commit_files(api: "HfApi") -> str:
        with ExitStack() as opened:
            files: dict[str, BinaryIO] = {name: opened.enter_context(_own_file(folder / name)) for name in names}
            if not heldout and HELDOUT_FILE in here:
                card = files["README.md"].read().decode()
                files["README.md"] = BytesIO(_without_heldout(card, folder / "README.md").encode())
            added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=files[name]) for name in names]
            created = api.create_commit(repo, added, commit_message="Ranked dataset", repo_type="dataset")
        return str(created.commit_url)

    return upload(repo, "dataset", commit_files, private=private)


def _without_heldout(card: str, path: Path) -> str:
    """A dataset's card for a repository without the held-out prompts. Raises DataError if it names their file in some
    other way than `harness.augmentation.card` does."""
    for written, instead in ((HELDOUT_SPLIT, ""), (HELDOUT_WORDS, "held out (kept back, not in this repository)")):
        card = card.replace(written, instead)
    if HELDOUT_FILE in card:
        raise DataError(
            f"{path}: names {HELDOUT_FILE}, which is not uploaded; edit the card, or upload it too with --split all"
        )
    return card


def upload(
    repo: str, kind: Literal["dataset", "model"], commit_files: Callable[["HfApi"], str], *, private: bool = False
) -> str:
    """Create a repository (`OWNER/NAME`) on the hub unless it exists, and commit files to it. `commit_files`: does so
    with the hub's client; returns the commit's URL, as this does.

    The token is that in HF_TOKEN, else that of the stored login (`hf auth login`). It is sent to the hub alone, which
    is the user's HF_ENDPOINT. Raises DataError, whose text never contains the token."""
    _check_name(repo)
    token = _token()
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        # Without --private, visibility is not set: the owner's default or the existing repository's setting applies.
        api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        public = private and not api.repo_info(repo, repo_type=kind).private
        if not public:
            return commit_files(api)
    except HarnessError:
        raise
    except Exception as error:  # network, access and validation errors come in many classes
        reason = str(getattr(error, "server_message", None) or error) or type(error).__name__
        reason = printable(masked(reason, token), 300)
        advice = "check the name, the network, and that the token may write there"
        raise DataError(f"hub {kind} '{repo}': not uploaded ({reason}); {advice}") from None
    raise DataError(f"hub {kind} '{repo}': not uploaded, because it already exists and is public; leave out --private")


def _check_name(repo: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise DataError(f"--push-to-hub: expected OWNER/NAME, got '{repo[:80]}'")


def _own_file(path: Path) -> BinaryIO:
    """A file of the folder, open: no link, wherever it leads, since everyone can read what is uploaded. Raises
    DataError."""
    try:
        if path.is_symlink():
            raise OSError(0, "it is a link; expected a file of its own", str(path))
        return open_file(path, inside=path.parent)
    except OSError as error:
        raise DataError(f"{path}: not uploaded ({error.strerror or error})") from None


def _token() -> str:
    """The user's token for the hub: HF_TOKEN, else what a login has stored. Raises DataError."""
    token = os.environ.get("HF_TOKEN", "").strip() or _stored_token()
    if not token:
        raise DataError(
            "--push-to-hub: HF_TOKEN is not set, and there is no stored login; log in with hf auth login, or set it to "
            "a token with write access"
        )
    # Anything else would be rejected as a header, in an error message that shows the token.
    if not re.fullmatch(r"[!-~]+", token):
        raise DataError("--push-to-hub: HF_TOKEN is not a token; expected one word of ASCII characters")
    return token


def _stored_token() -> str:
    """The token of the login that huggingface_hub keeps, or that a CI provider gives; empty without one."""
    from huggingface_hub import get_token

    try:
        return get_token() or ""
    except Exception as error:  # of a CI provider's exchange, or a file that can't be read
        raise DataError(f"--push-to-hub: no token for the hub ({first_line(error, 200)}); set HF_TOKEN") from None


def commit(dataset: str, revision: str | None) -> str | None:
    """The commit of a dataset's revision: the revision itself if it is a commit, else the one in this machine's hub
    cache, else the one reported by the hub, which is then cached, so that a resumed run uses the same data. None if the
    hub can't be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionResolutionError

    try:
        resolution = HfApi().resolve_revision(dataset, repo_type="dataset", revision=revision, local_files_only=True)
    except RevisionResolutionError:
        try:
            resolution = HfApi().resolve_revision(dataset, repo_type="dataset", revision=revision)
        except Exception:  # network, access and not-found errors come in many classes; `dataset_folder` reports which
            return None
    return str(resolution.resolved)


def dataset_folder(dataset: str, revision: str | None, patterns: Sequence[str] | None = None) -> Path:
    """The folder in the hub's cache with the dataset's files at a revision; only those that match `patterns`, if given.
    Files that are already cached are not downloaded again. Raises DataError."""
    from huggingface_hub import snapshot_download

    pinned = commit(dataset, revision) or revision
    try:
        return Path(
            snapshot_download(
                dataset, repo_type="dataset", revision=pinned, allow_patterns=list(patterns) if patterns else None
            )
        )
    except Exception as error:  # as above
        at = f" at revision {pinned}" if pinned else ""
        raise DataError(
            f"hub dataset '{dataset}'{at} can't be read ({first_line(error)}); check the id, the network, HF_TOKEN, "
            "or give a copy as `path`"
        ) from None
