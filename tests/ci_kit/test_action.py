"""The action as a runner runs it: a push to the base branch, a worse pull request, and a second push that mends it."""

import json
import os
from pathlib import Path

import pytest

from harness.gate.baseline import promote
from tests.ci_kit.repository import PROMPTS, GitHub, Judge, Origin, answers, checkout, recipe, write_event
from tests.ci_kit.runner import Job, Runner, environment
from tests.fake_server import FakeServer

pytestmark = pytest.mark.slow

INPUTS = {
    "recipe": "gate.yaml",
    "max-cost": "2",
    "install": "none",
    "judge-key": "sk-of-the-judge",
    "judge-key-variable": "JUDGE_KEY",
    "options": "--metric alpaca_eval.win_rate\n--margin 25",
}
SPOIL = "import os; open(os.environ['SPOILT'], 'w').close(); raise SystemExit(5)"
"""What a stranger's module would do where it is imported."""


class Story:
    """The three jobs, in order, on one repository. `asked`: verdicts that each of them asked for."""

    def __init__(self, folder: Path) -> None:
        self.judge, self.github = Judge(), GitHub()
        self.spoilt = folder / "spoilt"
        self.asked: list[int] = []
        self.bodies: list[str] = []
        self.keys: set[str | None] = set()
        with FakeServer(self.judge).running() as server, self.github.running():
            self.github.write("<!-- harness gate: harness-gate -->\nAll is fine, says a stranger.", "stranger")
            origin = Origin(folder / "origin")
            start = {"gate.yaml": recipe(server.url), "reference.json": answers("reference")}
            first = origin.commit({**start, "answers/model.json": answers("old")})
            machine = environment(folder / "home", GITHUB_API_URL=self.github.url, SPOILT=str(self.spoilt))
            runner = Runner(folder, machine)

            def job(kind: str, commit: str, *pull: object) -> Job:
                place = folder / f"workspace-{runner.jobs}"
                event = write_event(folder / f"event-{runner.jobs}.json", *pull)  # type: ignore[arg-type]
                before = len(self.judge.asked)
                done = runner.run(checkout(origin, place, commit), INPUTS, event, kind, commit)
                self.asked.append(len(self.judge.asked) - before)
                self.bodies.append(self.github.comments[-1]["body"])
                return done

            self.pushed = job("push", first)
            promote(Path(self.pushed.outputs["board"]), "model", origin.folder / "baseline.json")
            origin.commit({})
            hostile = {
                "answers/model.json": answers("worse"),
                "baseline.json": json.dumps({"entry": "mine"}),
                "gate.yaml": recipe("http://127.0.0.1:9").replace('"model"', '"mine"'),
                **dict.fromkeys(("json.py", "venv.py", "typing.py", "harness/__init__.py", "sitecustomize.py"), SPOIL),
                ".gitattributes": "* filter=spoil\n",
            }
            base, head, merge = origin.pull(7, hostile)
            self.worse = job("pull_request", merge, 7, base, head)
            base, head, merge = origin.pull(7, {"answers/model.json": answers("same")})
            self.mended = job("pull_request", merge, 7, base, head)
            self.keys = {{k.lower(): v for k, v in headers.items()}.get("authorization") for headers in server.headers}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("story"))


def test_without_a_baseline_it_says_how_to_make_one(story: Story) -> None:
    job = story.pushed
    assert (job.code, job.outputs["code"], story.asked[0]) == (2, "2", PROMPTS), job.log
    assert "harness baseline promote FOLDER --row model -o baseline.json" in job.summary
    assert "nothing to compare with yet (fail, as asked)" in job.summary


def test_a_worse_model_is_red_and_the_comment_says_by_how_much(story: Story) -> None:
    job = story.worse
    assert (job.code, job.outputs["code"]) == (1, "1"), job.log
    body = story.bodies[1]
    assert body.startswith("<!-- harness gate: harness-gate -->\n## Gate: worse\n")
    assert "- **worse**: alpaca_eval.win_rate −60.0 points (95 % CI −" in body
    assert "| model | model | alpaca_eval.win_rate | 25 | −60.0 |" in body
    assert "### Beside the answers of the base branch" in body
    assert "| model | model.base |" in body
    assert "/us/model/actions/runs/2)" in body
    assert body.endswith(job.summary)
    assert (job.artifacts["harness-gate"] / "index.html").is_file()
    assert {"board.json", "board.md"} <= set(os.listdir(job.artifacts["harness-gate"]))


def test_a_second_push_edits_the_comment_and_a_model_as_good_is_green(story: Story) -> None:
    assert (story.mended.code, story.mended.outputs["code"]) == (0, "0"), story.mended.log
    assert story.github.calls == ["GET", "POST", "GET", "PATCH"]
    stranger, ours = story.github.comments
    assert stranger["body"].endswith("says a stranger.")
    assert ours["body"].startswith("<!-- harness gate: harness-gate -->\n## Gate: not worse\n")


def test_no_verdict_is_asked_twice(story: Story) -> None:
    assert story.asked == [PROMPTS, PROMPTS, PROMPTS]  # each time those of new answers alone
    assert [story.judge.asked.count(name) for name in ("old", "worse", "same")] == [PROMPTS] * 3


def test_a_pull_request_decides_nothing_but_its_answers(story: Story) -> None:
    assert not story.spoilt.exists()
    assert story.keys == {"Bearer sk-of-the-judge"}
    for job in (story.pushed, story.worse, story.mended):
        assert "sk-of-the-judge" not in job.log + job.summary
        holders = {name for name, values in job.environments.items() if "sk-of-the-judge" in values.values()}
        tokens = {name for name, values in job.environments.items() if "the-token" in values.values()}
        assert holders == {"Judge and gate"}
        assert tokens <= {"Comment"}
