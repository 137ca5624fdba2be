"""A ranked dataset's folder onto the Hugging Face hub."""

import os
import re
from pathlib import Path

from harness.dataset_files import read_ranked
from harness.errors import DataError

FILES = ("README.md", "ranked.jsonl", "heldout.jsonl")
"""What is uploaded of a folder. Not `artifact.json`: it tells of the machine."""


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload the card and the rows of a dataset's folder to the hub's dataset `repo` (`OWNER/NAME`), which is made if
    it isn't there, in one commit. Returns the commit's address. The token is HF_TOKEN's. Raises DataError; its text
    never holds the token."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise DataError(f"--push-to-hub: expected OWNER/NAME, got '{repo[:80]}'")
    if not (folder / "README.md").is_file() or not (folder / "ranked.jsonl").is_file():
        raise DataError(f"{folder}: expected a dataset's folder, with ranked.jsonl and its card, README.md")
    read_ranked(folder)  # what can't be read here isn't uploaded
    token = _token()
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    files = [name for name in FILES if (folder / name).is_file()]
    try:
        # Without --private nothing is said of it: an owner's default, or what the dataset is already, stays.
        api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
        public = private and not api.repo_info(repo, repo_type="dataset").private
        if not public:
            added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
            done = api.create_commit(repo, added, commit_message="Ranked dataset", repo_type="dataset")
            return str(done.commit_url)
    except Exception as error:  # network, access and validation errors come in many classes
        told = str(getattr(error, "server_message", None) or error) or type(error).__name__
        told = " ".join(told.replace(token, "HF_TOKEN").split())[:300]
        wanted = "check the name, the network, and that HF_TOKEN may write there"
        raise DataError(f"hub dataset '{repo}': not uploaded ({told}); {wanted}") from None
    raise DataError(f"hub dataset '{repo}': not uploaded, as it is there already and public; leave out --private")


def _token() -> str:
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise DataError("--push-to-hub: HF_TOKEN is not set; give it a token of yours that may write")
    # Anything else would be refused as a header, in a message that shows it.
    if not re.fullmatch(r"[!-~]+", token):
        raise DataError("--push-to-hub: HF_TOKEN is no token; expected one word of ASCII characters")
    return token
