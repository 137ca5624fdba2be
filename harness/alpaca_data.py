"""AlpacaEval's data: instructions with reference outputs, from the package, a folder, a file of one's own, or the hub's
dataset at a pinned revision."""

from pathlib import Path
from typing import NamedTuple

from harness import alpaca_files, datafiles
from harness.errors import DataError
from harness.length_control import GAMED_SHA256

HUB_DATASET = "tatsu-lab/alpaca_eval"
HUB_REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
OFFICIAL_FILE = "alpaca_eval_gpt4_baseline.json"
OFFICIAL_SHA256 = "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
FIRST_FILE = "alpaca_eval.json"
"""AlpacaEval 1's: the same instructions with text-davinci-003's outputs."""
GAMED_FILE = "df_gamed.csv"
OWN = "give other data as `prompts: FILE`"
GET_GAMED = (
    f"the length-controlled rate needs the official {GAMED_FILE} (SHA-256 {GAMED_SHA256[:12]}...) of the hub dataset "
    f"{HUB_DATASET}: put it beside the prompts in data_dir, or name it as df_gamed; or set length_control: minimal"
)
_HOW = "download it elsewhere and set data_dir to its folder, or HARNESS_DATA to that folder's parent"


class Item(NamedTuple):
    """An instruction, and what the file has as the reference's output."""

    id: str
    instruction: str
    output: str | None
    dataset: str
    generator: str


def items(data: bytes, where: str, *, with_outputs: bool) -> list[Item]:
    """A file's rows. Raises DataError naming the row that can't be used."""
    found: dict[str, Item] = {}
    for number, row in enumerate(datafiles.json_list(data, where), start=1):
        instruction, output = row.get("instruction"), row.get("output")
        if not isinstance(instruction, str) or not instruction:
            raise DataError(f"prompts {where}, row {number}: expected a text under `instruction`")
        if not isinstance(output, str) and (with_outputs or output is not None):
            raise DataError(f"prompts {where}, row {number}: expected the reference's text under `output`")
        question_id = alpaca_files.instruction_id(instruction)
        if question_id in found:
            raise DataError(f"prompts {where}, row {number}: its instruction is there twice; rows are joined by it")
        names = (str(row.get(key) or "unknown") for key in ("dataset", "generator"))
        found[question_id] = Item(question_id, instruction, output, *names)
    if not found:
        raise DataError(f"prompts {where}: no rows")
    return list(found.values())


def official(folder: Path | None) -> bytes:
    """AlpacaEval 2's file, from a folder or the hub. Raises DataError."""
    path = _local(OFFICIAL_FILE, folder) if folder is not None else from_hub(OFFICIAL_FILE, _HOW)
    return datafiles.official(datafiles.read_bytes(path), OFFICIAL_SHA256, str(path), OWN)


def first_reference(folder: Path | None) -> Path:
    """AlpacaEval 1's file, from a folder or the hub. Raises DataError."""
    return _local(FIRST_FILE, folder) if folder is not None else from_hub(FIRST_FILE, _HOW)


def _local(name: str, folder: Path) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder} has no {name} (or .gz); it is in the hub dataset {HUB_DATASET}")


def from_hub(name: str, how: str) -> Path:
    """A file of AlpacaEval's hub dataset, at the pinned revision. Raises DataError; `how`: what else can be done."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB_DATASET, name, repo_type="dataset", revision=HUB_REVISION))
    except Exception as error:  # network, access and not-found errors come in many classes
        where = f"the hub dataset {HUB_DATASET} at revision {HUB_REVISION}"
        raise DataError(f"AlpacaEval's {name} can't be fetched from {where} ({type(error).__name__}); {how}") from None
