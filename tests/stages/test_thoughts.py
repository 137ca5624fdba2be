"""Thoughts planted in whatever a policy writes reach no reward model, judge, second turn or length."""

import json
import logging
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.engine.stage import Context, Stage
from harness.engine.store import Store
from harness.errors import ModelError
from harness.models import decoding
from harness.models import load as models
from harness.models.decode.thinking import Marks
from harness.pipeline.guards import answer_flags
from harness.pipeline.progress import SilentView
from harness.protocols import Ready, Sampled
from harness.recipe.evaluation import AnswerSampling
from harness.recipe.policy import Policy, policy_identity
from harness.report.notes import stage_notes, thought_notes
from harness.stages.answers import answers_stage
from harness.training.checkpoint import RowModel
from harness.types import Answer, Completion, RankedExample
from tests.sample_boards import entry
from tests.stages.scripted import Script, Shortest, groups, own_pairs, recipe, run

SECRET, ANSWER = "secret reasoning", "An answer."
TEMPLATES = {path.name: path.read_text() for path in files("trl").joinpath("chat_templates").iterdir()}
NAMES = sorted(name for name in TEMPLATES if name.endswith(".jinja") and "training" not in name)
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"
FORMS = {"gptoss.jinja": HARMONY, "gemma4.jinja": "<|channel>thought\n{}<channel|>{}"}
PLAIN = "<think>\n{}\n</think>\n\n{}"


class Rows:
    """Rows of one model, whose answers are planted: `text` is written after every prompt."""

    def __init__(self, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str = "stop"):
        self.folder, self.model, self.prompts = folder, model, list[str]()
        self.mt: Any = build("benchmark", {"name": "mt_bench", "questions": "builtin", "limit": 3})
        monkeypatch.setattr(RowModel, "load", lambda *_: models.load_causal_lm(str(model), dtype="float32"))

        def planted(_model: Any, tokenizer: Any, jobs: Any, *, arrived: Any, then: Any, **_: Any) -> None:
            for i, job in enumerate(jobs):
                following = job
                while following is not None:
                    self.prompts.append(tokenizer.decode(following.prompt))
                    opened = Marks(tokenizer).opened(following.prompt) is not None
                    written = text.removeprefix("<think>\n") if opened else text
                    done = Completion(text=written, finish_reason=reason, tokens=9, opened=opened)
                    arrived([row := Sampled(i, following.samples[0], done)])
                    following = then(row)

        monkeypatch.setattr(decoding, "decode", planted)

    def answers(self, **policy: Any) -> tuple[list[Answer], dict[str, Any]]:
        row = RowModel(Policy(model=str(self.model), dtype="float32", **policy))
        stage = answers_stage("base", row, AnswerSampling(), self.mt, 0)
        folder = self.folder / f"{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        place = Store(self.folder / "store")
        report = stage.body(Context(folder, {}, SilentView(), logging.getLogger(), place, folder / "partial", "k"))
        lines = (folder / "answers.jsonl").read_text().splitlines()
        return [Answer.model_validate(json.loads(line)) for line in lines], report


def with_template(tiny_model: Path, folder: Path, template: str) -> Path:
    made = folder / "model"
    shutil.copytree(tiny_model, made)
    (made / "chat_template.jinja").write_text(template)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_no_thought_reaches_the_judge_the_second_turn_or_a_length(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").mkdir()
    text = FORMS.get(name, PLAIN).format(SECRET, ANSWER)
    model = with_template(tiny_model, tmp_path, TEMPLATES[name])
    rows = Rows(tmp_path / "rows", model, monkeypatch, text)
    answers, report = rows.answers()
    assert {turn for answer in answers for turn in answer.turns} == {ANSWER}
    assert len(rows.prompts) == 6
    assert not any(SECRET in prompt for prompt in rows.prompts)
    assert sum(ANSWER in prompt for prompt in rows.prompts) == 3
    counts = {"removed": True, "texts": 6, "with_thoughts": 6, "unfinished": 0, "closed": 0}
    assert report["thoughts"] == counts


def test_another_choice_asks_no_first_turn_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows(tmp_path, tiny_model, monkeypatch, PLAIN.format(SECRET, ANSWER))
    rows.answers()
    answers, report = rows.answers(thinking="keep")
    assert len(rows.prompts) == 6 + 3  # second turns, with the thoughts in their context
    assert all(SECRET in prompt for prompt in rows.prompts[6:])
    assert all(SECRET in turn for answer in answers for turn in answer.turns)
    assert report["thoughts"]["removed"] is False
    with pytest.raises(ModelError, match=r"^6 of 6 texts have a thought, which policy.thinking: refuse .*enable_thin"):
        rows.answers(thinking="refuse")
    assert len(rows.prompts) == 9


def test_answers_without_thoughts_are_as_ever(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "  Use `<think>` \n\nand </think> so.  \n"
    rows = Rows(tmp_path, tiny_model, monkeypatch, text)
    for thinking in ("strip", "keep", "refuse"):
        answers, report = rows.answers(thinking=thinking)
        assert {turn for answer in answers for turn in answer.turns} == {text}
        assert "thoughts" not in report


def test_an_answer_that_ends_inside_its_thought_is_empty_and_flagged(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows(tmp_path, tiny_model, monkeypatch, f"<think>\n{SECRET}", reason="length")
    answers, report = rows.answers()
    assert {answer.turns for answer in answers} == {("", "")}
    assert report["thoughts"]["unfinished"] == 6
    (flag,) = [flag for flag in answer_flags(answers, {}, report) if flag.name == "thoughts"]
    assert flag.text.startswith("6 of 6 answers ended inside their thought")
    assert "max_thinking_tokens" in flag.text
    assert len(flag.evidence) == 3
    (note,) = thought_notes([entry("base", "base", answers={"mt_bench": report})])
    assert note == (
        "mt_bench: thoughts removed from answers of base (6 of 6; 6 ended inside their thought and have no answer)."
    )


# Training data.


class Reads(Shortest):
    """Prefers short texts, and refuses to see a thought."""

    def score(self, rows: Sequence[tuple[Any, str]], ready: Ready) -> list[float | None]:
        assert not any(SECRET in text for _, text in rows)
        return super().score(rows, ready)


@pytest.mark.parametrize("form", [PLAIN, HARMONY, "[THINK]{}[/THINK]{}", "{}\n</think>\n\n{}"])
def test_no_thought_is_scored_or_trained_on(form: str, tmp_path: Path) -> None:
    # Braces of the script: the number of the sample.
    writer = Script(text=form.format(SECRET, "Answer {k} to prompt {i}."))
    made = recipe(generator=writer)
    assert made.data is not None
    made = made.model_copy(update={"data": made.data.model_copy(update={"reward": Reads()})})
    artifacts = run(made, tmp_path)
    assert all(SECRET not in r.text for group in groups(artifacts) for r in group.responses)
    assert artifacts["responses"].report["thoughts"]["with_thoughts"] == 40
    assert "texts with thoughts (40 of 40)" in stage_notes(artifacts["responses"].report)
    ranked = artifacts["ranked"].rows("ranked.jsonl", RankedExample)
    assert {r.text for e in ranked for r in e.responses if r.source == "script"} >= {"Answer 0 to prompt 0."}


def test_thoughts_in_the_seeds_own_answers_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {i}?", "chosen": PLAIN.format("Hm.", "It."), "rejected": "No."} for i in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seeds = {"seeds": [{"name": "jsonl", "path": str(tmp_path / "pairs.jsonl")}], "holdout": 2}
    report = run(own_pairs(**seeds), tmp_path / "own")["ranked"].report
    assert report["seed_answers_with_thoughts"] == 8
    sampled = recipe()
    assert sampled.data is not None
    data = sampled.data.model_copy(update={"seeds": own_pairs(**seeds).data.seeds, "holdout": 2})
    report = run(sampled.model_copy(update={"data": data}), tmp_path / "sampled")["responses"].report
    assert report["seed_answers_with_thoughts"] == 8
    assert "seed_answers_with_thoughts" not in run(own_pairs(), tmp_path / "none")["ranked"].report


def test_new_prompts_are_written_without_thoughts(tmp_path: Path) -> None:
    writer = Script(text=PLAIN.format("Shall I ask about cheese?", "What is the use of tool number {i} in a kitchen?"))
    artifacts = run(recipe(prompts={"generator": writer, "count": 2, "max_similarity": 1}), tmp_path)
    texts = [group.messages[0].content for group in groups(artifacts) if group.source == "generated"]
    assert len(texts) == 2
    assert all(text.startswith("What is the use") for text in texts)
    assert artifacts["prompts"].report["with_thoughts"] >= 2


# Keys.


def test_keys_change_with_what_is_given_alone(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = Rows(tmp_path, tiny_model, monkeypatch, "")

    def made(most: int | None = None, **policy: Any) -> Stage:
        model = RowModel(Policy(model=str(tiny_model), dtype="float32", **policy))
        return answers_stage("base", model, AnswerSampling(max_thinking_tokens=most), rows.mt, 0)

    stage = made()
    assert not {"thinking", "chat_template_kwargs"} & {*stage.params, *stage.params["policy"]}
    assert "max_thinking_tokens" not in stage.params["sampling"]
    others = [made(thinking="keep"), made(chat_template_kwargs={"enable_thinking": False}), made(64)]
    assert len({stage.key, *(other.key for other in others)}) == 4
    assert made(thinking="strip", chat_template_kwargs={}).key == stage.key
    with_values = Policy(model=str(tiny_model), dtype="float32", chat_template_kwargs={"enable_thinking": False})
    assert policy_identity(with_values)["chat_template_kwargs"] == {"enable_thinking": False}
