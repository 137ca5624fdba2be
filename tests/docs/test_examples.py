"""The documentation's Python runs: blocks of the pages, and examples in the packages' docstrings."""

import ast
import doctest
import importlib
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from tests.docs import pages
from tests.docs.pages import ROOT, Block, all_blocks, blocks, exists


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


QUICK, RUNS = [], []
for _block in all_blocks("python"):
    (RUNS if "harness.run(" in _block.text else QUICK).append(_block)


@pytest.mark.parametrize("block", RUNS, ids=place)
def test_what_is_read_of_a_run_exists(block: Block) -> None:
    """A run takes minutes: these blocks are compared with the API's classes and arguments instead."""
    import inspect

    from harness import api

    tree = ast.parse(block.text)
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "harness.run"]
    assert {keyword.arg for keyword in call.keywords} <= inspect.signature(api.run).parameters.keys()
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "run"}
    assert attributes
    assert attributes <= {*vars(api.Run), *api.Run.__dataclass_fields__}
    assert inspect.signature(api.run).bind(*call.args, **{str(k.arg): k.value for k in call.keywords})


@pytest.mark.parametrize("block", QUICK, ids=place)
def test_python_blocks_run(block: Block, sandbox: Path) -> None:
    module = types.ModuleType("block_of_a_page")
    sys.modules[module.__name__] = module
    try:
        exec(compile(block.text, place(block), "exec"), vars(module))
    finally:
        del sys.modules[module.__name__]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The components of the page on how to add one, each a file that an entry point names."""
    from harness import components

    entries = []
    for block in blocks("harness/README.md", "python"):
        (component,) = re.findall(r'^    name: Literal\["(\w+)"\]', block.text, flags=re.MULTILINE) or [""]
        if component:
            (tmp_path / f"page_{component}.py").write_text(block.text, encoding="utf-8")
            group = "losses" if "DpoLoss" in block.text else "benchmarks"
            entries.append(f"[harness.{group}]\n{component} = page_{component}\n")
    info = tmp_path / "pages-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pages\nVersion: 1\n")
    (info / "entry_points.txt").write_text("".join(entries))
    monkeypatch.syspath_prepend(tmp_path)
    components.modules.cache_clear()
    yield
    components.modules.cache_clear()


@pytest.mark.usefixtures("installed")
def test_the_example_of_a_loss_is_one() -> None:
    """It equals DPO where its margin is 0."""
    import torch

    from harness import components
    from harness.protocols import RankedLogps

    batch = RankedLogps(
        logps=torch.tensor([[-3.0, -5.0, -4.0]]),
        ref_logps=torch.tensor([[-4.0, -4.0, -4.0]]),
        scores=torch.tensor([[2.0, 1.0, 0.0]]),
        lengths=torch.tensor([[3, 3, 3]]),
        mask=torch.tensor([[True, True, True]]),
    )
    plain, valid = components.build("loss", {"name": "dpo_best_worst", "beta": 0.5})(batch)  # type: ignore[operator]
    zero, _ = components.build("loss", {"name": "dpo_margin", "beta": 0.5})(batch)  # type: ignore[operator]
    loss, _ = components.build("loss", {"name": "dpo_margin", "beta": 0.5, "gamma": 0.7})(batch)  # type: ignore[operator]
    assert valid.tolist() == [True]
    assert torch.equal(zero, plain)
    assert loss.item() == pytest.approx(-torch.nn.functional.logsigmoid(torch.tensor(0.5 * (1.0 - 0.0) - 0.7)).item())
    assert "on_pairs: yes" in CliRunner().invoke(app, ["components", "loss", "dpo_margin"]).output


@pytest.mark.usefixtures("installed")
def test_the_example_of_a_benchmark_is_one() -> None:
    """Its questions are answered, a judge is asked, and its declared figure has an interval."""
    from harness.benchmark import Benchmark
    from harness.components import build
    from harness.types import Answer, Ask, JudgeReply

    benchmark = build("benchmark", {"name": "politeness"})
    assert isinstance(benchmark, Benchmark)
    questions = benchmark.load_questions()
    answers = [
        Answer(question_id=q.id, turns=(f"Reply {i}",), finish_reasons=("stop",), tokens=2)
        for i, q in enumerate(questions)
    ]
    replies = [JudgeReply(text=text) for text in ("yes", "No", "maybe")]
    verdicts = benchmark.verdicts(answers, [], Ask(lambda requests: replies[: len(requests)]))
    assert [v.value for v in verdicts] == [1.0, 0.0, None]
    metric = benchmark.metrics(answers, [], verdicts)["politeness.polite"]
    assert (metric.value, metric.n, metric.n_invalid) == (50.0, 2, 1)
    assert metric.ci95 is not None
    assert (
        "politeness.polite  polite answers" in CliRunner().invoke(app, ["components", "benchmark", "politeness"]).output
    )


# Docstrings of the packages.

PACKAGES = sorted(
    ".".join(["harness", *path.parent.relative_to(ROOT / "harness").parts]).rstrip(".")
    for path in (ROOT / "harness").rglob("__init__.py")
)
NOT_MODULES = {"beta", "tie_margin", "alpaca_eval", "harness"}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_docstrings_hold(package: str) -> None:
    """Examples run as doctests, imports in them work, and modules that are named exist."""
    module = importlib.import_module(package)
    text = module.__doc__ or ""
    assert doctest.testmod(module).failed == 0
    folder = Path(str(module.__file__)).parent
    for span in pages.spans(text):
        if re.fullmatch(r"[a-z_]+", span) and span not in NOT_MODULES:
            assert (folder / f"{span}.py").exists() or (folder / span).is_dir(), f"{package} names {span}"
        if re.fullmatch(r"harness(\.\w+)+", span):
            assert exists(span), span
    for line in re.findall(r"^ {4}(from harness.*|import harness.*)$", text, flags=re.MULTILINE):
        (node,) = ast.parse(line).body
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert exists(f"{node.module}.{alias.name}"), line
