"""AlpacaEval's data: instructions with reference outputs, from the package, a folder, a user's file, or the hub's
dataset at a pinned revision."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from harness import files
from harness.benchmarks.alpaca_eval.files import instruction_id
from harness.benchmarks.alpaca_eval.length_control import GAMED_SHA256
from harness.errors import DataError

HUB_DATASET = "tatsu-lab/alpaca_eval"
HUB_REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
OFFICIAL_FILE = "alpaca_eval_gpt4_baseline.json"
OFFICIAL_SHA256 = "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
FIRST_FILE = "alpaca_eval.json"
"""AlpacaEval 1's: the same instructions with text-davinci-003's outputs."""
GAMED_FILE = "df_gamed.csv"
USE_OTHER_FILE = "give other data as `prompts: FILE`"
GET_GAMED = (
    f"the length-controlled rate needs the official {GAMED_FILE} (SHA-256 {GAMED_SHA256[:12]}...) of the hub dataset "
    f"{HUB_DATASET}: put it beside the prompts in data_dir, or name it as df_gamed; or set length_control: minimal"
)
_DOWNLOAD_HINT = "download it elsewhere and set data_dir to its folder, or HARNESS_DATA to that folder's parent"


class Instruction(NamedTuple):
    """An instruction, with the reference output if the file has one."""

    id: str
    instruction: str
    output: str | None
    dataset: str
    generator: str


def parse_instructions(data: bytes, where: str, *, with_outputs: bool) -> list[Instruction]:
    """The instructions of a file. Raises DataError naming the row that can't be used."""
    parsed: dict[str, Instruction] = {}
    for number, row in enumerate(files.json_list(data, where), start=1):
        instruction, output = row.get("instruction"), row.get("output")
        if not isinstance(instruction, str) or not instruction:
            raise DataError(f"prompts {where}, row {number}: expected a text under `instruction`")
        if not isinstance(output, str) and (with_outputs or output is not None):
            raise DataError(f"prompts {where}, row {number}: expected the reference's text under `output`")
        question_id = instruction_id(instruction)
        if question_id in parsed:
            raise DataError(f"prompts {where}, row {number}: its instruction is repeated; rows are joined by it")
        names = (str(row.get(key) or "unknown") for key in ("dataset", "generator"))
        parsed[question_id] = Instruction(question_id, instruction, output, *names)
    if not parsed:
        raise DataError(f"prompts {where}: no rows")
    return list(parsed.values())


def official_instructions(folder: Path | None) -> bytes:
    """AlpacaEval 2's file, from a folder or the hub. Raises DataError."""
    path = _local(OFFICIAL_FILE, folder) if folder is not None else fetch_from_hub(OFFICIAL_FILE, _DOWNLOAD_HINT)
    return files.official(files.read_bytes(path), OFFICIAL_SHA256, str(path), USE_OTHER_FILE)


def read_prompts(prompts: str | Path, folder: Path | None) -> bytes:
    """The file of `builtin`, `official` (from a folder or the hub) or the user's own prompts. Raises DataError."""
    if prompts == "builtin":
        return files.read_bytes(files.asset("alpaca_eval.json"))
    if prompts == "official":
        return official_instructions(folder)
    if not Path(prompts).is_file():
        raise DataError(f"prompts: no file {prompts}; expected builtin, official, or a JSON file")
    return files.read_bytes(Path(prompts))


def first_reference_file(folder: Path | None) -> Path:
    """AlpacaEval 1's file, from a folder or the hub. Raises DataError."""
    return _local(FIRST_FILE, folder) if folder is not None else fetch_from_hub(FIRST_FILE, _DOWNLOAD_HINT)


def reference_outputs(instructions: Iterable[Instruction]) -> dict[str, str]:
    """The reference outputs by question id."""
    return {item.id: item.output for item in instructions if item.output is not None}


def _local(name: str, folder: Path) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder} has no {name} (or .gz); it is in the hub dataset {HUB_DATASET}")


def fetch_from_hub(name: str, how: str) -> Path:
    """A file of AlpacaEval's hub dataset, at the pinned revision. Raises DataError; `how`: advice for its message."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB_DATASET, name, repo_type="dataset", revision=HUB_REVISION))
    except Exception as error:  # network, access and not-found errors come in many classes
        where = f"the hub dataset {HUB_DATASET} at revision {HUB_REVISION}"
        raise DataError(f"AlpacaEval's {name} can't be fetched from {where} ({type(error).__name__}); {how}") from None
