"""Gates in tiers: a policy file, what each tier lets pass, and the exit code."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import HarnessError
from harness.gate.check import INCONCLUSIVE, PASS, WORSE
from harness.gate.policy import Policy, read_policy, run_policy
from harness.report.write import write_board
from tests.claims.test_tax import BASE, CODING, LOOSE, lost, row

POLICY = """\
tiers:
  - {name: must hold, metrics: [humaneval.pass_at_1], margin: 3}
  - {name: should hold, metrics: [ifbench.loose], margin: 5, inconclusive: allow}
"""


def board(folder: Path, coding: int, loose: int) -> Path:
    write_board(folder, "b", [BASE, row("dpo", lost(CODING, coding), lost(LOOSE, loose))])
    return folder


def gate(folder: Path, policy: str, *options: str) -> tuple[int, str]:
    (folder / "policy.yaml").write_text(policy)
    command = ["gate", str(folder), "--policy", str(folder / "policy.yaml"), *options]
    done = CliRunner().invoke(app, command)
    return done.exit_code, done.output


def policy(text: str, tmp_path: Path) -> Policy:
    (tmp_path / "p.yaml").write_text(text)
    return read_policy(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("coding", "loose", "code"),
    [(0, 0, PASS), (60, 0, WORSE), (0, 60, WORSE), (9, 0, INCONCLUSIVE), (0, 18, PASS), (9, 18, INCONCLUSIVE)],
)
def test_the_exit_code_is_that_of_the_tiers(tmp_path: Path, coding: int, loose: int, code: int) -> None:
    done, said = gate(board(tmp_path, coding, loose), POLICY, "--row", "dpo", "--baseline-row", "base")
    assert done == code, said
    assert "must hold: humaneval.pass_at_1" in said
    assert ("this tier allows that" in said) == (loose == 18)


def test_the_tier_of_the_tax_section_has_all_its_figures(tmp_path: Path) -> None:
    folder = board(tmp_path, 60, 0)
    own = policy("tiers: [{name: tax, metrics: tax, margin: 4}]\n", tmp_path)
    results = run_policy(folder, own, None, "dpo", "base")
    assert {r.check.metric: r.code for r in results} == {"humaneval.pass_at_1": WORSE, "ifbench.loose": PASS}


def test_a_row_that_lacks_a_figure_does_not_pass(tmp_path: Path) -> None:
    text = "tiers: [{name: a, metrics: [lm_eval.gsm8k], margin: 3, inconclusive: allow}]\n"
    code, said = gate(board(tmp_path, 0, 0), text, "--row", "dpo", "--baseline-row", "base")
    assert code == 2, said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiers: []\n", "tiers"),
        ("tiers: [{name: a}]\n", "tiers.0.metrics: missing"),
        ("tiers: [{name: a, metrics: tax, margins: 3}]\n", "tiers.0.margins: unknown field; did you mean 'margin'?"),
        ("tiers: [{name: a, metrics: tax, margin: -1}]\n", "expected a number of at least 0"),
        ("tiers: [{name: a, metrics: tax}, {name: a, metrics: tax}]\n", "two tiers are called 'a'"),
        ("tiers: [{name: a, metrics: tax, inconclusive: maybe}]\n", "inconclusive"),
        ("- 1\n", "p.yaml"),
    ],
)
def test_mistakes_in_a_policy_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        policy(text, tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_policy_has_its_own_metrics(tmp_path: Path) -> None:
    code, said = gate(board(tmp_path, 0, 0), POLICY, "--row", "dpo", "--metric", "ifbench.loose")
    assert code == 2
    assert "a policy has its own metrics" in " ".join(said.replace("│", " ").split())
