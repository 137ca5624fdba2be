"""`data.ranked`: a file of ranked responses, or a component that reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationInfo

from harness.components import RecipePath, SeedField, component_class, modules
from harness.data.columns.delimited import is_delimited
from harness.data.rows import is_parquet
from harness.errors import DataError
from harness.protocols import Seed
from harness.variables import Variables

_PATH: TypeAdapter[Path] = TypeAdapter(RecipePath)


def _fields(value: Any, info: ValidationInfo) -> Any:
    """The fields of the component. A bare path is read by its kind, and every row as a ranking."""
    if isinstance(value, str | Path | Variables):
        value = _of_path(_PATH.validate_python(value, context=info.context))
    if not isinstance(value, Mapping) or value.get("name") not in modules("seed"):
        return value  # whatever is wrong is said as for any component
    name = value["name"]
    if "rankings" not in component_class("seed", name).model_fields:
        can = [other for other in sorted(modules("seed")) if "rankings" in component_class("seed", other).model_fields]
        raise ValueError(f"'{name}' reads pairs, which go into `seeds`; expected a file, or one of {', '.join(can)}")
    if value.get("columns") is not None:
        raise ValueError("`columns` are those of pairs: leave them out, since rankings are read in their own layouts")
    return {**value, "rankings": True}


def _of_path(path: Path) -> dict[str, Any]:
    if (path / "ranked.jsonl").is_file():  # the folder of a ranked dataset
        path = path / "ranked.jsonl"
    return {"name": _kind(path), "path": str(path)}


def _kind(path: Path) -> str:
    """The component that reads a file, by what it holds, or a folder."""
    if path.is_dir():
        return "parquet"
    if is_delimited(path):
        return "csv"
    try:
        parquet = is_parquet(path)
    except DataError:  # the component says why it can't be read
        parquet = path.suffix.lower() == ".parquet"
    return "parquet" if parquet else "jsonl"


RankedField = Annotated[SeedField, BeforeValidator(_fields)]
"""A seed component that reads every row as a ranking, whichever layout of `harness.data.rankings` it has."""


def reads_rankings(seed: Seed) -> bool:
    """Whether a component reads every row as a ranking."""
    return bool(dict(seed).get("rankings"))
