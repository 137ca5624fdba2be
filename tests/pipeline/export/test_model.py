"""`harness export --model`: what is exported answers as the row has answered, and its card says what it is."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.boards.entry import Entry
from harness.cli.app import app
from harness.cli.endings import as_exit_code
from harness.errors import DataError, HarnessError, StoreError
from harness.pipeline.export.links import gone
from harness.pipeline.export.metadata import results
from tests.e2e.test_rows_are_their_checkpoints import greedy, whole
from tests.pipeline.export import runs

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE = f"tiny/llama@{COMMIT}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(folder: Path) -> harness.Run:
    return runs.run(folder, runs.recipe(folder, "float32", ["lora", "full"]))


@pytest.fixture(scope="module")
def export(run: harness.Run, folder: Path) -> Callable[..., Path]:
    def made(row: str, name: str, **options: Any) -> Path:
        if not (folder / "out" / name).exists():
            harness.export_model(run, row, folder / "out" / name, store=folder / "store", **options)
        return folder / "out" / name

    return made


def answered(model: Any, tokenizer: Path, run: harness.Run, row: str) -> dict[str, str]:
    from transformers import AutoTokenizer

    questions = list(runs.answers(run, row))
    return dict(zip(questions, greedy(AutoTokenizer.from_pretrained(tokenizer), model, questions), strict=True))


def header(path: Path) -> dict[str, Any]:
    """As huggingface_hub reads it."""
    from huggingface_hub import ModelCard

    fields: dict[str, Any] = ModelCard.load(path / "README.md").data.to_dict()
    return fields


def text(path: Path) -> str:
    return (path / "README.md").read_text(encoding="utf-8")


def test_an_adapter_answers_as_its_row(run: harness.Run, folder: Path, export: Callable[..., Path]) -> None:
    from peft import PeftConfig, PeftModel

    out = export("lora", "lora", base=BASE)
    config = PeftConfig.from_pretrained(str(out))
    assert (config.base_model_name_or_path, config.revision) == ("tiny/llama", COMMIT)
    model = PeftModel.from_pretrained(whole(folder / "secret-place" / "model", torch.float32), str(out)).eval()
    assert answered(model, out, run, "lora") == runs.answers(run, "lora")


@pytest.mark.parametrize("row", ["lora", "full"])
def test_a_whole_model_answers_as_its_row(row: str, run: harness.Run, export: Callable[..., Path]) -> None:
    out = export(row, f"{row}-whole", merge=True)
    assert not (out / "adapter_config.json").exists()
    assert answered(whole(out, torch.float32), out, run, row) == runs.answers(run, row)


@pytest.mark.slow
def test_rows_from_a_fine_tuned_policy(tmp_path: Path) -> None:
    run = runs.run(tmp_path, runs.recipe(tmp_path, "float32", ["tuned-lora"]))
    for row in ("tuned-lora", "sft"):
        harness.export_model(run, row, tmp_path / row, merge=True)
        assert answered(whole(tmp_path / row, torch.float32), tmp_path / row, run, row) == runs.answers(run, row)
    assert "fine-tuning (row <code>sft</code>)" in text(tmp_path / "tuned-lora")
    assert "by supervised fine-tuning on ranked answers" in text(tmp_path / "sft")
    with pytest.raises(
        DataError, match=r"is an adapter for what row 'sft' was trained to, .*; --merge it; or upload sft"
    ):
        harness.export_model(run, "tuned-lora", tmp_path / "new")
    harness.export_model(run, "tuned-lora", tmp_path / "adapter", base=BASE)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["revision"] == COMMIT


@pytest.mark.slow
def test_merging_later_rounds_as_training_does(tmp_path: Path) -> None:
    run = runs.run(tmp_path, runs.recipe(tmp_path, "bfloat16", ["lora", "merged"]))
    for row in ("lora", "merged"):
        harness.export_model(run, row, tmp_path / row, merge=True, store=tmp_path / "store")
    assert {path.name for path in (tmp_path / "lora").iterdir()} == {p.name for p in (tmp_path / "merged").iterdir()}
    for path in (tmp_path / "lora").iterdir():
        assert path.name == "README.md" or path.read_bytes() == (tmp_path / "merged" / path.name).read_bytes()
    said = text(tmp_path / "lora")
    assert "of the adapter on its base in bfloat16. These weights, in bfloat16, were not judged." in said
    assert "were not judged" not in text(tmp_path / "merged")
    harness.export_model(run, "merged", tmp_path / "exact", dtype="float32", store=tmp_path / "store")
    assert json.loads((tmp_path / "exact" / "config.json").read_text())["dtype"] == "float32"
    assert "These weights, in float32, were not judged." in text(tmp_path / "exact")


def test_another_dtype_is_rounded_and_said(export: Callable[..., Path]) -> None:
    out, exact = export("full", "half", dtype="bfloat16"), export("full", "full-whole", merge=True)
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    ours, theirs = (whole(path, torch.float32).state_dict() for path in (out, exact))
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=2**-7, atol=1e-30)
        assert torch.equal(weight.bfloat16().float(), weight)
    assert "figures above are of the same weights in float32. These weights, in bfloat16, were not judged." in text(out)


def test_the_card_says_what_the_board_says(run: harness.Run, export: Callable[..., Path]) -> None:
    from huggingface_hub import ModelCard

    out = export("lora", "lora", base=BASE)
    card = ModelCard.load(out / "README.md")
    assert card.data.eval_results == results(run.rows["lora"]) != []
    assert str(ModelCard(str(card))) == str(card) == text(out)
    fields = header(out)
    assert fields["base_model"] == "tiny/llama"
    assert fields["base_model_relation"] == "adapter"
    assert (fields["library_name"], fields["pipeline_tag"]) == ("peft", "text-generation")
    assert (fields["license"], fields["language"]) == ("apache-2.0", ["en", "de"])  # of the model's own card
    assert {"dpo", "lora", "preference-harness"} <= set(fields["tags"])
    (index,) = fields["model-index"]
    by_name = {m["name"]: m for result in index["results"] for m in result["metrics"]}
    rate = run.rows["lora"].metrics["alpaca_eval.win_rate"]
    assert by_name["AlpacaEval win rate, %"]["value"] == rate.value
    assert by_name["AlpacaEval win rate, %"]["args"] == {"ci95": list(rate.ci95 or ()), "n": 7, "n_invalid": 0}
    judges = {result["dataset"].get("config") for result in index["results"]}
    assert judges == {"judge: reward_model length", None}


def test_the_card_is_complete_and_names_nothing_of_this_machine(
    run: harness.Run, folder: Path, export: Callable[..., Path]
) -> None:
    export("lora", "lora", base=BASE)
    for row in ("lora", "full"):
        export(row, f"{row}-whole", merge=True)
    for path in (folder / "out").rglob("*"):
        if path.suffix not in ("", ".safetensors"):
            for private in (str(folder), "secret-place", "More Information Needed", str(Path.home())):
                assert private not in path.read_text(encoding="utf-8"), path
    said = text(export("lora", "lora", base=BASE))
    for part in ("CC0-1.0", "| beta ", "| optimizer steps ", "name: dpo_best_worst", "95 % CIs", "Uncalibrated judge"):
        assert part in said, part
    assert "vllm serve tiny/llama --revision" in said
    assert "--enable-lora --max-lora-rank 8 --lora-modules lora=./lora" in said
    whole_card = text(export("full", "full-whole", merge=True))
    assert "vllm serve ./full-whole" in whole_card
    assert "licence of the base model was not known" in whole_card
    assert header(export("full", "full-whole", merge=True))["license"] == "unknown"


def test_the_python_of_the_card_runs(
    folder: Path, export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = export("full", "full-whole", merge=True)
    (code,) = re.findall(r"```python\n(.*?)```", text(out), re.DOTALL)
    monkeypatch.chdir(out.parent)
    exec(code.replace("max_new_tokens=256", "max_new_tokens=4"), {})
    assert capsys.readouterr().out.strip() != ""


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        code = app(["export", *arguments], standalone_mode=False) or 0
    except BaseException as error:
        code = as_exit_code(error)
    said = capfd.readouterr().err
    assert (code, said.count("\n")) == (2, 1), said
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "lorra", "-o", "new"], "no row 'lorra'; did you mean 'lora'? available: base, full, lora"),
        (["--model", "base", "-o", "new"], "row 'base' is the policy before training: there is nothing to export"),
        (["--model", "lora", "-o", "new"], "is an adapter for the folder 'model' of this machine"),
        (["--model", "lora", "-o", "new", "--base", "x"], "expected OWNER/NAME or OWNER/NAME@REVISION, got 'x'"),
        (["--model", "lora", "-o", "new", "--base", "a/b", "--dtype", "bfloat16"], "add --merge for a whole model"),
        (["--model", "full", "-o", "new", "--dtype", "int8"], "--dtype: unknown 'int8'"),
        (["--model", "full"], "expected -o FOLDER, or --push-to-hub OWNER/NAME"),
        (["--model", "full", "-o", "new", "--private"], "--private: only with --push-to-hub"),
        (["--model", "full", "-o", "new", "--format", "trl"], "leave out --format"),
        (["--merge", "-o", "x.jsonl"], "are for models: name a board and --model ROW"),
        (["--model", "full", "-o", "full"], "full is there already; expected a new or empty folder"),
        (["--model", "full", "-o", "new", "--store", "nowhere"], "is not in nowhere: the store was moved, or cache gc"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    said: str,
    run: harness.Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    (folder / "full").mkdir(exist_ok=True)
    (folder / "full" / "mine").write_text("mine")
    assert said in refused(capfd, str(run.folder), *arguments)
    assert not (folder / "new").exists()
    assert [path.name for path in (folder / "full").iterdir()] == ["mine"]
    assert not list(folder.glob(".*.tmp"))


def test_the_boards_link_leads_to_the_store(run: harness.Run, tmp_path: Path) -> None:
    """The default store of this test is empty; the run had another one."""
    (tmp_path / "empty").mkdir()
    done = harness.export_model(run.folder, "full", tmp_path / "empty")
    assert done.serve == f"vllm serve {tmp_path / 'empty'}"
    assert (tmp_path / "empty" / "model.safetensors").is_file()
    board = shutil.copytree(run.folder, tmp_path / "board", symlinks=True)
    for link in (board / "models").iterdir():
        link.unlink()
    with pytest.raises(StoreError, match="the store was moved, or cache gc removed it; name its store with --store"):
        harness.export_model(board, "full", tmp_path / "new")


def test_links_are_no_part_of_the_board(run: harness.Run, folder: Path) -> None:
    assert {path.name for path in (run.folder / "models").iterdir() if path.is_symlink()} == {*run.checkpoints}
    assert all((run.folder / "models" / row).samefile(c.path) for row, c in run.checkpoints.items())
    assert not any("models" in name for name in json.loads((run.folder / "board.files.json").read_text())["files"])
    assert (
        app(["cache", "gc", "--keep", str(run.folder), "--store", str(folder / "store")], standalone_mode=False) is None
    )
    assert gone(run.folder) is None
    again = runs.run(folder, runs.recipe(folder, "float32", ["full"]))
    assert {path.name for path in (run.folder / "models").iterdir()} == {"full", ".gitignore"}
    assert again.completed.kept is not None
    assert not (again.completed.kept / "models").exists()
    assert harness.load_board(again.completed.kept).entries == run.board.entries


def test_a_changed_checkpoint_is_not_exported(tmp_path: Path, folder: Path, run: harness.Run) -> None:
    store = shutil.copytree(folder / "store", tmp_path / "store")
    (target,) = [p for p in store.rglob("checkpoint/model.safetensors") if p.samefile(_of(store, run, "full"))]
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    with pytest.raises(StoreError, match="its content has changed"):
        harness.export_model(run.folder, "full", tmp_path / "out", store=store)
    assert not (tmp_path / "out").exists()


def _of(store: Path, run: harness.Run, row: str) -> Path:
    key = next(key for name, key in run.rows[row].provenance.keys.items() if name == f"train/{row}")
    return store / "artifacts" / key / "checkpoint" / "model.safetensors"


def test_rows_without_a_model_say_why(tmp_path: Path, run: harness.Run) -> None:
    from harness.report.write import write_board

    rows = [Entry(id="gpt4", method="system"), Entry(id="old", method="dpo_best_worst")]
    write_board(tmp_path / "board", "board", [*run.board.entries, *rows])
    for row, said in (("gpt4", "has its answers from a file"), ("old", "names no training of its own")):
        with pytest.raises(DataError, match=said):
            harness.export_model(tmp_path / "board", row, tmp_path / "out")
    with pytest.raises(HarnessError, match="expected a folder"):
        harness.export_model(run, "full")
