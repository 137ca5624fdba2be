"""A row's answers and held-out figures are those of its own checkpoint, as `transformers` and `peft` load it."""

import json
import logging
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import harness
from harness.components import build
from harness.engine.execute import execute
from harness.engine.stage import Context, Stage
from harness.engine.store import Artifact, Store
from harness.pipeline.plan import make_plan
from harness.pipeline.progress import SilentView
from harness.recipe.evaluation import AnswerSampling
from harness.recipe.load import load_study
from harness.recipe.policy import Policy
from harness.stages._metrics import metrics
from harness.stages.answers import answers_stage
from harness.training import rounding
from harness.training.checkpoint import CHECKPOINT, TRAINED, RowModel
from harness.types import Answer, RankedExample
from tests.sample_boards import drawn
from tests.tiny import tiny_tokenizer

WORDS = ("red", "green", "blue", "sun", "moon", "tree", "river", "stone")
PAIRS = [
    {"prompt": f"Say {one} and {two}.", "chosen": f"{two}, {one}, {one}", "rejected": f"{one} {len(two)}"}
    for one in WORDS[:4]
    for two in WORDS[4:]
]
LENGTHS = {"max_prompt_length": 64, "max_length": 128}
NEW_TOKENS = 10
LOSS = {"name": "dpo_best_worst", "beta": 0.1}
TUNED = {"sft": {"learning_rate": 5e-3}}
WHOLE = {"lora": None, "learning_rate": 2e-3}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "tuned-lora": TUNED,
    "merged": {"merge": True},
    "full": WHOLE,
    "tuned-merged": {**TUNED, "merge": True},
    "tuned-full": {**TUNED, **WHOLE},
}
ADAPTERS = ("lora", "tuned-lora")
SFT_OF = {"tuned-lora": "sft", "tuned-merged": "sft", "tuned-full": "sft-2"}
"""The fine-tuned row that a row starts from: for `sft`, adapters were trained and merged; for `sft-2`, all weights."""


class Rows:
    """The rows of a recipe on the tiny model, all but judged; and their models as others load them."""

    def __init__(self, folder: Path, dtype: str, methods: list[str]) -> None:
        from transformers import AutoTokenizer

        self.dtype: torch.dtype = getattr(torch, dtype)
        self.model = varied_model(folder / "model")
        self.tokenizer = AutoTokenizer.from_pretrained(self.model)
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
        recipe = {
            "name": "rows",
            "seed": 1,
            "policy": {"model": str(self.model), "dtype": dtype},
            "data": {"seeds": [{"name": "jsonl", "path": str(folder / "pairs.jsonl")}], "holdout": 4, "report": False},
            "methods": [{"id": name, "loss": LOSS, "training": METHODS[name]} for name in methods],
            "training": {"epochs": 1, "learning_rate": 1e-2, "batch_size": 4, "lora": {"r": 4}, **LENGTHS},
            "evaluation": {
                "judge": {"name": "reward_model", "reward": {"name": "length"}},
                "answers": {"max_new_tokens": NEW_TOKENS, "temperature": 0.0},
                "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": 7}],
            },
        }
        (cell,) = load_study(recipe).cells
        plan = make_plan(cell.recipe)
        stages = [stage for stage in plan.stages if stage.name != "verdicts"]
        self.artifacts = execute(SimpleNamespace(stages=stages), Store(folder / "store"), SilentView()).artifacts
        self.planned = {row.id: row for row in plan.rows}
        self.heldout = self.artifact(plan.data["ranked"]).rows("heldout.jsonl", RankedExample)
        assert cell.recipe.evaluation is not None
        self.questions = [q.turns[0] for q in cell.recipe.evaluation.benchmarks[0].load_questions()]

    @property
    def trained_rows(self) -> list[str]:
        return [row for row in self.planned if row != "base"]

    def artifact(self, stage: Stage | None) -> Artifact:
        assert stage is not None
        return self.artifacts[stage.key]

    def deployed(self, row: str) -> Any:
        """The row's policy in the dtype in which it answers."""
        if row == "base":
            return whole(self.model, self.dtype)
        folder = self.artifact(self.planned[row].policy).folder / CHECKPOINT
        return self._load(row, folder, torch.float32 if row in ADAPTERS and row in SFT_OF else self.dtype)

    def trained(self, row: str) -> Any:
        """What was trained, in float32."""
        return self._load(row, in_float32(self.artifact(self.planned[row].policy).folder), torch.float32)

    def _load(self, row: str, folder: Path, dtype: torch.dtype) -> Any:
        from peft import PeftModel

        if not (folder / "adapter_config.json").exists():
            return whole(folder, dtype)
        return PeftModel.from_pretrained(self.start(row, dtype), str(folder)).eval()

    def start(self, row: str, dtype: torch.dtype) -> Any:
        """The policy that the row's training started from: as it answers, or what was trained."""
        if row not in SFT_OF:
            return whole(self.model, dtype)
        folder = self.artifact(self.planned[row].sft).folder
        return whole(in_float32(folder) if dtype == torch.float32 else folder / CHECKPOINT, dtype)

    def answers(self, row: str) -> list[str]:
        """The row's recorded answers, in the order of the questions."""
        answers = self.artifact(self.planned[row].answers["alpaca_eval"]).rows("answers.jsonl", Answer)
        return [answer.turns[0] for answer in answers]

    def greedy(self, model: Any) -> list[str]:
        return greedy(self.tokenizer, model, self.questions)

    def margins(self, row: str, name: str = "margins.json") -> list[float]:
        """The row's recorded margins, in the order of the pairs."""
        by_pair = self.artifact(self.planned[row].heldout).json(name)
        return [by_pair[example.id] for example in self.heldout]

    def margins_between(self, policy: Any, reference: Any) -> list[float]:
        """The same between two models, one response at a time."""
        margins = []
        for example in self.heldout:
            prompt = encoded(self.tokenizer, [message.model_dump() for message in example.messages])
            rewards = {
                r.source: self.logp(policy, prompt, r.text) - self.logp(reference, prompt, r.text)
                for r in example.responses
            }
            margins.append(rewards["seed:chosen"] - rewards["seed:rejected"])
        return margins

    def logp(self, model: Any, prompt: list[int], response: str) -> float:
        """Of a response and the end of the turn."""
        end = [*self.tokenizer(response, add_special_tokens=False).input_ids, self.tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + end])).logits[0, len(prompt) - 1 : -1].float()
        return float(logits.log_softmax(-1)[range(len(end)), end].sum())


def greedy(tokenizer: Any, model: Any, questions: list[str]) -> list[str]:
    """A model's answers, one question at a time."""
    texts = []
    for question in questions:
        prompt = encoded(tokenizer, [{"role": "user", "content": question}])
        mask = torch.ones(1, len(prompt))
        tokens = model.generate(torch.tensor([prompt]), attention_mask=mask, max_new_tokens=NEW_TOKENS)
        texts.append(tokenizer.decode(tokens[0, len(prompt) :], skip_special_tokens=True))
    return texts


def encoded(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def in_float32(artifact: Path) -> Path:
    return artifact / TRAINED if (artifact / TRAINED).exists() else artifact / CHECKPOINT


def whole(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def varied_model(folder: Path, seed: int = 0) -> Path:
    """A tiny random model, on the grid of bfloat16, whose answers differ from prompt to prompt: its weights are
    large."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = tiny_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=size - 3,
        eos_token_id=size - 2,
        pad_token_id=size - 1,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


RUNS = [
    pytest.param(("float32", ["lora", "tuned-lora"]), id="adapters"),
    pytest.param(("float32", list(METHODS)), id="float32", marks=pytest.mark.slow),
    pytest.param(("bfloat16", list(METHODS)), id="bfloat16", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=RUNS)
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return Rows(tmp_path_factory.mktemp("rows"), *request.param)


def test_a_row_answers_as_its_checkpoint(rows: Rows) -> None:
    for row in rows.planned:
        ours, theirs = rows.answers(row), rows.greedy(rows.deployed(row))
        if rows.dtype == torch.float32:
            assert ours == theirs, row
        else:  # batches round differently, and peft rounds an adapter's outputs twice
            assert sum(a == b for a, b in zip(ours, theirs, strict=True)) > len(ours) / 2, row


def test_rows_answer_differently(rows: Rows) -> None:
    """So the test above tells their models apart. Merged adapters may answer as those that are not."""
    answers = [rows.answers(row) for row in rows.planned if "merged" not in row]
    assert all(one != other for i, one in enumerate(answers) for other in answers[:i])


def test_margins_are_those_of_the_checkpoint(rows: Rows) -> None:
    for row in rows.trained_rows:
        policy = rows.deployed(row)
        margins = rows.margins_between(policy, rows.start(row, policy.get_input_embeddings().weight.dtype))
        if rows.dtype == torch.float32:
            assert rows.margins(row) == pytest.approx(margins, abs=1e-3), row
        else:
            assert rows.margins(row) == pytest.approx(margins, abs=0.35), row  # batches round differently
        assert min(margins) > 0.5, row


def test_the_share_of_the_margin_that_is_kept(rows: Rows) -> None:
    for row in rows.trained_rows:
        artifact = rows.artifact(rows.planned[row].heldout)
        figures = metrics(artifact)
        kept = figures["heldout.margin_kept"]
        assert kept.n == len(rows.heldout)
        if artifact.report["dtype"] == "float32":
            assert (kept.value, "heldout.trained_margin" in figures) == (1, False)
            continue
        exact = rows.margins_between(rows.trained(row), rows.start(row, torch.float32))
        assert rows.margins(row, "trained_margins.json") == pytest.approx(exact, abs=1e-3), row
        assert figures["heldout.trained_margin"].value == pytest.approx(fmean(exact), abs=1e-3)
        assert kept.value == pytest.approx(fmean(rows.margins(row)) / fmean(exact), abs=1e-3)
        assert kept.value == pytest.approx(1, abs=0.1)
    base = rows.artifact(rows.planned["base"].heldout)
    assert metrics(base)["heldout.margin_kept"].value is None
    assert base.report["no_margin_kept"] == "nothing was trained"


def test_adapters_on_a_fine_tuned_policy_answer_in_float32(rows: Rows) -> None:
    dtypes = {row: rows.artifact(rows.planned[row].heldout).report["dtype"] for row in rows.planned}
    assert dtypes.pop("tuned-lora") == "float32"
    assert set(dtypes.values()) == {str(rows.dtype).removeprefix("torch.")}


def test_what_was_trained_does_not_answer_where_its_weights_were_rounded(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = varied_model(tmp_path / "base")
    deployed, trained = (varied_model(tmp_path / name, seed) for seed, name in ((1, CHECKPOINT), (2, TRAINED)))
    model = RowModel(Policy(model=str(base), dtype="bfloat16"), Stage("train/x", "train", 1, {}, {}, lambda ctx: {}))
    benchmark: Any = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": 5})
    stage = answers_stage("x", model, AnswerSampling(max_new_tokens=NEW_TOKENS, temperature=0.0), benchmark, 0)
    inputs: Any = {"policy": SimpleNamespace(folder=tmp_path)}
    (tmp_path / "answers").mkdir()
    store, log = Store(tmp_path / "store"), logging.getLogger()
    stage.body(Context(tmp_path / "answers", inputs, SilentView(), log, store, tmp_path / "partial", "k"))
    lines = (tmp_path / "answers" / "answers.jsonl").read_text().splitlines()
    ours = [json.loads(line)["turns"][0] for line in lines]
    questions = [question.turns[0] for question in benchmark.load_questions()]
    tokenizer = AutoTokenizer.from_pretrained(base)
    same = {
        folder.name: sum(a == b for a, b in zip(ours, greedy(tokenizer, whole(folder, dtype), questions), strict=True))
        for folder, dtype in ((deployed, torch.bfloat16), (trained, torch.float32), (base, torch.bfloat16))
    }
    assert same[CHECKPOINT] > 2
    assert (same[TRAINED], same["base"]) == (0, 0)


@pytest.mark.slow
def test_a_margin_that_rounding_swallows_is_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded to the nearest value, nearly all weights fall back onto the base's. Without a judge, too, that is
    flagged, wherever a board is shown."""
    monkeypatch.setattr(rounding, "round_stochastically", lambda weights, dtype, generator: weights.to(dtype))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    recipe = {
        "name": "swallowed",
        "policy": {"model": varied_model(tmp_path / "model"), "dtype": "bfloat16"},
        "data": {"seeds": [{"name": "jsonl", "path": tmp_path / "pairs.jsonl"}], "holdout": 4, "report": False},
        "methods": [{"id": "full", "loss": LOSS}],
        "training": {"lora": None, "learning_rate": 1e-6, "batch_size": 4, **LENGTHS},
    }
    run = harness.run(recipe, leaderboards=tmp_path / "boards", store=tmp_path / "store", progress=False)
    row = run.rows["full"]
    kept, margin, trained = (row.value(f"heldout.{name}") for name in ("margin_kept", "margin", "trained_margin"))
    assert kept is not None
    assert margin is not None
    assert trained is not None
    assert kept == pytest.approx(margin / trained)
    assert kept < 0.8
    assert [flag.name for flag in row.provenance.guards["row"]] == ["precision"]
    assert "row" not in run.rows["base"].provenance.guards
    page, markdown = ((run.folder / name).read_text() for name in ("index.html", "board.md"))
    for shown in (page, markdown, " ".join(drawn(run.folder, 200).split())):
        assert "of the held-out margin that training reached in float32" in shown
    assert "What makes figures doubtful" in markdown
