"""The validator of Every Eval Ever itself, in an environment of its own that is made by a Python of 3.12 or newer.
Run by hand: `EEE_PYTHON=python3.12 pytest -n 0 -s -m soak tests/report/every_eval_ever`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report.every_eval_ever.export import export_records
from harness.report.every_eval_ever.reading import import_records
from harness.report.write import write_board
from tests.report.boards import board_with_answers
from tests.report.every_eval_ever.checks import BUILTINS
from tests.sample_boards import four_rows

pytestmark = pytest.mark.soak

BOARDS = Path(__file__).parents[3] / "leaderboards"
VERSION = "0.3.0"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("EEE_PYTHON")
    if not given:
        pytest.skip("EEE_PYTHON doesn't name a Python of 3.12 or newer")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([given, "-m", "venv", str(folder)], check=True, timeout=120)
    made = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    package = f"every-eval-ever=={VERSION}"
    subprocess.run([str(made), "-m", "pip", "install", "-q", package], check=True, timeout=900)
    return made


def test_its_validator_passes_every_board(python: Path, tmp_path: Path) -> None:
    """Clean runs exit with 0: neither an error nor a warning."""
    boards = sorted(path.parent for path in BOARDS.glob("*/board.json"))
    write_board(tmp_path / "made", "made", four_rows())
    board_with_answers(tmp_path / "answers")
    for board in (*boards, tmp_path / "made", tmp_path / "answers"):
        export_records(board, tmp_path / "anonymous", None, BUILTINS)
        export_records(board, tmp_path / "owned", "acme", BUILTINS)
    import_records(tmp_path / "owned/data/quickstart", tmp_path / "back")
    export_records(tmp_path / "back", tmp_path / "owned", None, BUILTINS)
    for folder in ("anonymous", "owned"):
        validate = [str(python), "-m", "every_eval_ever", "validate", "--format", "json", "data/*/*/*/*.json*"]
        done = subprocess.run(validate, cwd=tmp_path / folder, capture_output=True, text=True, timeout=300)
        found = json.loads(done.stdout)
        print(f"{folder}: {len(found)} files, {sum(f['line_count'] for f in found)} samples, exit {done.returncode}")
        assert [f for f in found if f["errors"] or f["warnings"]] == []
        assert done.returncode == 0
        assert len(found) == sum(1 for path in (tmp_path / folder).rglob("*") if path.is_file())


MT_BENCH = """
import json, sys
from pathlib import Path
from every_eval_ever.adapters.mt_bench.adapter import convert_logs
rows = [
    {"question_id": q, "model": "gpt-4", "judge": ["gpt-4", "single-v1"], "turn": t, "score": score, "tstamp": 1.0}
    for q in range(81, 91) for t, score in ((1, 9 if q % 2 else 7), (2, 4))
]
(log,) = [log for log, *_ in convert_logs(rows, "1700000000").records]
Path(sys.argv[1]).write_text(log.model_dump_json(exclude_none=True))
"""


def test_records_of_its_own_adapter_are_read(python: Path, tmp_path: Path) -> None:
    subprocess.run([str(python), "-c", MT_BENCH, str(tmp_path / "r.json")], check=True, timeout=120)
    (entry,) = import_records(tmp_path / "r.json", tmp_path / "board").rows
    assert {name: metric.value for name, metric in entry.metrics.items()} == {
        "mt_bench.score": 6.0,
        "mt_bench.turn_1": 8.0,
        "mt_bench.turn_2": 4.0,
    }
