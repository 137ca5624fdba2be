"""A process that is killed while its batch is under way, or just when the server has made it: nothing is submitted
twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fake_server import Body, completion
from tests.servers.batch_server import BatchServer, text_of, wait_until

ROOT = Path(__file__).parents[2]
ASKING = """\
import logging, sys
from pathlib import Path
from harness.components import build
from harness.judging.asker import make_ask
from harness.types import JudgeRequest, Message

logging.basicConfig(level=logging.INFO)
judge = build("judge", {"name": "openai", "model": "m", "base_url": sys.argv[1], "mode": "batch"})
ask = make_ask(judge, Path(sys.argv[2]), concurrency=4, advance=lambda _: None)
replies = ask([JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(30)])
print(*(reply.text for reply in replies))
"""


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


@pytest.mark.slow  # two or three processes each
@pytest.mark.parametrize("moment", ["under way", "just made", "uploading", "collecting"])
def test_a_batch_of_a_killed_process_is_not_submitted_again(tmp_path: Path, moment: str) -> None:
    server = BatchServer(looks=10**9)
    process: list[subprocess.Popen[str]] = []
    handle = server.handle

    def killing(method: str, path: str, data: bytes) -> tuple[int, object]:
        made = handle(method, path, data)
        at = {"just made": "/v1/batches", "uploading": "/v1/files"}.get(moment)
        if len(process) == 1 and ((method, path) == ("POST", at) or (moment == "collecting" and "/content" in path)):
            process[0].send_signal(signal.SIGKILL)
            process[0].wait()
        return made

    server.handle = killing  # type: ignore[method-assign]
    if moment == "collecting":
        server.looks = 1
    with server.running():
        arguments = ("-c", ASKING, server.url, str(tmp_path / "j.jsonl"))
        process.append(start(*arguments, folder=tmp_path))
        if moment == "under way":
            wait_until(lambda: server.batches and server.batches["batch_1"]["looks"] > 1)
            process[0].send_signal(signal.SIGKILL)
        assert process[0].wait(60) == -signal.SIGKILL
        server.looks = 1
        process.append(start(*arguments, folder=tmp_path))
        out, err = process[1].communicate(timeout=60)
        assert out.split() == " ".join(f"re q{i}" for i in range(30)).split(), err
        assert len(server.submitted) == 1
        assert not server.direct
        assert ("going on with it" in err) == (moment != "uploading")


RECIPE = """\
name: batched
policy: {{model: {model}, dtype: float32}}
data: {{seeds: [{{name: builtin, limit: 8}}], holdout: 0.25}}
evaluation:
  judge: {{name: openai, model: judge-1, base_url: "{url}", mode: batch, price: {{input: 1, output: 2}}}}
  answers: {{max_new_tokens: 8}}
  benchmarks:
    - {{name: mt_bench, questions: builtin, limit: 3}}
"""


@pytest.mark.slow  # two runs, which import torch
def test_a_run_that_is_interrupted_leaves_its_batch_and_the_same_command_goes_on(
    tmp_path: Path, tiny_model: Path
) -> None:
    def answer(body: Body) -> Body:
        assert text_of(body)
        return completion("Rating: [[7]]")

    with BatchServer(answer, looks=10**9).running() as server:
        (tmp_path / "x.yaml").write_text(RECIPE.format(model=tiny_model, url=server.url))
        command = ("-m", "harness.cli", "run", "x.yaml", "--max-cost", "1")
        run = start(*command, folder=tmp_path)
        wait_until(lambda: server.batches and server.batches["batch_1"]["looks"] > 1, 120)
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = run.communicate(timeout=60)
        assert run.returncode == 130, err
        assert time.monotonic() - began < 25
        assert "batch batch_1 stays under way on the server" in " ".join(out.split())
        server.looks = 0
        out, err = start(*command, folder=tmp_path).communicate(timeout=120)
        assert "going on with it" in " ".join(out.split()), err
        assert "Judging: 6 replies" in out
        assert len(server.submitted) == 1
        assert not server.direct
