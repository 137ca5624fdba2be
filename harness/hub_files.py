"""Datasets on the Hugging Face hub: the commit that a revision stands for, and the files at a commit."""

from collections.abc import Sequence
from pathlib import Path

from harness.errors import DataError


def commit(dataset: str, revision: str | None) -> str | None:
    """The commit that a dataset's revision stands for: itself where it is a commit, else the one that the hub's cache
    on this machine knows, else what the hub says, which the cache then remembers, so that a run that is taken up again
    is the same run. None where the hub can't be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionResolutionError

    try:
        known = HfApi().resolve_revision(dataset, repo_type="dataset", revision=revision, local_files_only=True)
    except RevisionResolutionError:
        try:
            known = HfApi().resolve_revision(dataset, repo_type="dataset", revision=revision)
        except Exception:  # network, access and not-found errors come in many classes; `fetched` says which it is
            return None
    return str(known.resolved)


def fetched(dataset: str, revision: str | None, patterns: Sequence[str] | None = None) -> Path:
    """The folder in the hub's cache that has the dataset's files at a revision; those that fit `patterns`, where there
    are any. Files that are there already are not asked for again. Raises DataError."""
    from huggingface_hub import snapshot_download

    at = commit(dataset, revision) or revision
    try:
        return Path(
            snapshot_download(
                dataset, repo_type="dataset", revision=at, allow_patterns=list(patterns) if patterns else None
            )
        )
    except Exception as error:  # as above
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        which = f" at revision {at}" if at else ""
        raise DataError(
            f"hub dataset '{dataset}'{which} can't be read ({first}); check the id, the network, HF_TOKEN, "
            "or give a copy as `path`"
        ) from None
