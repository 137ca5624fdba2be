"""Through the command line, with a served judge: what judging will cost, a limit on it, a key that shows nowhere."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.fake_server import Body, FakeServer, completion

KEY = "sk-planted-0123456789abcdef"
RECIPE = """\
name: costly
policy: {{model: {model}, dtype: float32}}
data: {{seeds: [{{name: builtin, limit: 8}}], holdout: 0.25}}
evaluation:
  judge: {{name: openai, model: judge-1, base_url: "{url}", api_key_env: PLANTED, max_retries: 2}}
  answers: {{max_new_tokens: 8}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: file, limit: 12}}
    - {{name: mt_bench, questions: builtin, limit: 3}}
"""
PRICES = "judge-1: {input: 100, output: 300}\n"


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.harness(*arguments, home=folder / "home", cwd=folder, PLANTED=KEY, COLUMNS="160")


class Bill:
    """A judge's server that adds up what it charges, and that repeats the caller's key wherever it can."""

    def __init__(self) -> None:
        self.dollars = 0.0
        self.calls = 0

    def __call__(self, body: Body) -> Any:
        self.calls += 1
        if self.calls % 7 == 3:
            return 500, {"error": {"message": f"failed for {KEY}"}}, {"X-Key": KEY}
        if body["max_tokens"] > 1 and self.calls % 5 == 0:
            return 400, {"error": {"message": f"Bearer {KEY} may not ask this"}}, {}
        tokens = len(body["messages"][-1]["content"]) // 4
        self.dollars += (tokens * 100 + 20 * 300) / 1e6
        usage = {"prompt_tokens": tokens, "completion_tokens": 20}
        if body["max_tokens"] == 1:
            return completion("m", {"m": -0.1, "M": -2.5}, usage=usage)
        return completion(f"Your key is {KEY}. Rating: [[7]]", usage=usage)


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.slow  # six commands
def test_plan_limit_ledger_and_key(tmp_path: Path, tiny_model: Path) -> None:
    bill = Bill()
    with FakeServer(bill, delay=0.01).running() as server:
        (tmp_path / "x.yaml").write_text(RECIPE.format(model=tiny_model, url=server.url))

        # Without a price the plan says so, and a limit is refused before anything runs.
        plan = harness(tmp_path, "plan", "x.yaml")
        assert plan.returncode == 0, plan.stderr
        assert re.search(
            r"verdicts/alpaca_eval/base +12 +0 +[\d,]+ +12 +unknown +unknown +answers of 8 tokens", plan.stdout
        )
        refused = harness(tmp_path, "run", "x.yaml", "--max-cost", "1")
        assert refused.returncode == 2
        assert "--max-cost 1 can't be kept: the price of judge-1 is not known" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert not server.requests

        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "prices.yaml").write_text(PRICES)
        plan = harness(tmp_path, "plan", "x.yaml")
        found = re.search(r"in all +18 +0 +([\d,]+) +([\d,]+) +\$([\d.]+) +\$([\d.]+)", plan.stdout)
        assert found, plan.stdout
        planned, most = float(found[3]), float(found[4])
        assert 0 < planned < most

        # A limit in the middle of AlpacaEval: what was answered is kept and paid, and no more.
        limit = planned / 4
        stopped = harness(tmp_path, "run", "x.yaml", "--max-cost", str(limit))
        assert stopped.returncode == 2, stopped.stderr
        assert stopped.stderr.count("\n") == 1
        assert "the same command with a larger --max-cost to continue" in stopped.stderr
        assert 0 < bill.dollars <= limit
        journal = next((tmp_path / "home" / "store" / "journals").glob("verdicts-*.jsonl"))
        kept = len(journal.read_text().splitlines())
        assert kept == len(server.completed) > 0
        before = bill.dollars

        plan = harness(tmp_path, "plan", "x.yaml")
        assert re.search(rf"verdicts/alpaca_eval/base +{12 - kept} +{kept} +.* the answers", plan.stdout), plan.stdout

        done = harness(tmp_path, "run", "x.yaml", "--max-cost", str(2 * most))
        assert done.returncode == 0, done.stderr
        replies = len(server.completed)
        assert replies == len(journal.read_text().splitlines())
    board = json.loads((tmp_path / "leaderboards" / "costly" / "board.json").read_text())
    judging = board["rows"][0]["provenance"]["judging"]
    assert sum(ledger["replies"] for ledger in judging.values()) == replies
    assert sum(ledger["dollars"] for ledger in judging.values()) == pytest.approx(bill.dollars)
    line = next(line for line in done.stdout.splitlines() if line.startswith("Judging: "))
    assert line.startswith(f"Judging: {replies} replies, ")
    assert line.endswith(f"${bill.dollars:.4f} in all; {replies - kept} of this run, ${bill.dollars - before:.4f}.")
    assert not files_with(tmp_path, KEY)
    assert files_with(tmp_path, "***")
    for command in (plan, refused, stopped, done):
        assert KEY not in command.stdout + command.stderr
