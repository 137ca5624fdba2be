"""What keeps strangers and accidents out is done once, each in one place: no other file does it its own way.

The printer is in tests/cli/test_printing.py, the reader of YAML in tests/recipe/test_plain_yaml.py, and the starting of
programs in tests/children.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "harness"

OWN = ("engine/", "training/", "children/")
"""Rooms that read back what the harness itself has written, and check its hashes."""

ONLY = {
    # what is called: the files that may call it
    "gzip.decompress": set[str](),  # outside.unpacked has limits
    "gzip.open": set[str](),
    "json.load": set[str](),
    "json.loads": {"outside.py", "models/checkpoints/folder.py"},  # the header of safetensors, read within limits
    "yaml.safe_load": set[str](),
    "httpx.Client": {  # with servers/transport.py
        "servers/served.py",
        "servers/batches/endpoints.py",  # whose files are larger than replies
        "judging/renewal.py",  # prices at an address that the user gives
    },
    "httpx.stream": set[str](),
    "urllib.request.urlopen": set[str](),
    "shutil.copyfile": set[str](),  # follows links
    "shutil.copytree": set[str](),
    "shutil.rmtree": {"models/builtin/fetch.py", "trackers/to_tensorboard.py"},  # its own cache; its own logs
    "os.remove": set[str](),
    "openai.OpenAI": {"servers/served.py"},
    "os.system": set[str](),
    "FileLock": {"models/builtin/fetch.py"},
    "from_pretrained": {  # models are loaded once they have been checked
        "models/load.py",
        "models/tokenizers.py",
        "models/builtin/fetch.py",
        "models/checkpoints/adapters.py",
        "models/checkpoints/complete.py",
        "models/checkpoints/empty.py",  # of a configuration, without any file
        "models/facts.py",  # of configurations alone
    },
}
READS = {"read_text", "read_bytes"}
MAY_READ = {  # methods of Path, which follow links and wait for FIFOs
    "files.py",  # a download whose SHA-256 is pinned
    "components.py",  # source files of components that are imported already
    "seeds/builtin.py",  # ships with the package
    "report/page/render.py",  # its own style and script
    "judging/gold/page.py",  # the same
    "pipeline/injections.py",
    "pipeline/run.py",  # an artifact of the run
    "judging/calibration/record.py",
    "models/templates/rendering.py",  # /proc
    "models/batching.py",
    "models/processor.py",
    "models/checkpoints/stamps.py",  # our own cache of hashes
}


def calls(path: Path) -> set[str]:
    """Dotted names of what a file calls, and the last names of methods."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
            names |= {text, text.rpartition(".")[2]}
    return names


FILES = {path.relative_to(ROOT).as_posix(): calls(path) for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("name", ONLY)
def test_it_is_called_in_one_place(name: str) -> None:
    callers = {file for file, names in FILES.items() if name in names and not file.startswith(OWN)}
    assert callers <= ONLY[name]


def test_files_of_others_are_opened_by_the_opener() -> None:
    def reads(names: set[str]) -> bool:
        return any(n.rpartition(".")[2] in READS and "." in n and n not in ALLOWED for n in names)

    ALLOWED = {"files.read_bytes", "outside.read_text"}
    assert {file for file, names in FILES.items() if reads(names) and not file.startswith(OWN)} <= MAY_READ


def test_every_exception_is_needed() -> None:
    for name, files in ONLY.items():
        assert files <= {file for file, names in FILES.items() if name in names}, name
    for file in MAY_READ:
        assert any(n.rpartition(".")[2] in READS for n in FILES[file]), file


def test_what_a_board_s_folder_loses_is_what_it_owns() -> None:
    """Only `boards.writing` removes files of a board's folder, and `boards.folder` says which those are."""
    removers = {
        f for f, names in FILES.items() if "unlink" in names and f.split("/")[0] in ("boards", "report", "pipeline")
    }
    assert removers == {"boards/writing.py"}
    assert not [
        f for f, names in FILES.items() if "rmdir" in names and f != "boards/folder.py" and not f.startswith(OWN)
    ]
