"""`df_gamed.csv`, the file that the official length-controlled rate needs."""

from pathlib import Path
from typing import Any

from harness.benchmarks.alpaca_eval.data import GAMED_FILE, GET_GAMED, fetch_from_hub
from harness.benchmarks.alpaca_eval.length_control import GAMED_SHA256, OFFICIAL_GLM
from harness.files import official, read_bytes, sha256


def gamed_identity(path: Path | None) -> dict[str, Any]:
    """The regression and its file, as part of an identity. `path`: the recipe's file; None: the official one. Figures
    from another file are marked as unofficial."""
    if path is None:
        return {"lc_glm": OFFICIAL_GLM, "df_gamed_sha256": GAMED_SHA256}
    digest = sha256(read_bytes(path))
    mark = {} if digest == GAMED_SHA256 else {"lc_unofficial": f"{path.name} is not the official file"}
    return {"lc_glm": OFFICIAL_GLM, "df_gamed_sha256": digest, **mark}


def official_gamed(folder: Path | None) -> Path:
    """The official file, from the data folder or the hub. Raises DataError if its hash differs."""
    path = folder / GAMED_FILE if folder is not None and (folder / GAMED_FILE).is_file() else None
    path = path or fetch_from_hub(GAMED_FILE, GET_GAMED)
    official(read_bytes(path), GAMED_SHA256, str(path), "name another file as `df_gamed`")
    return path
