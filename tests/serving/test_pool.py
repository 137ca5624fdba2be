"""Engines as real processes: started, shared, started again after their death, and stopped."""

import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import ModelError
from harness.protocols import SampleRequest
from harness.serving.commands import command_of, variables_of
from harness.serving.engine import Engine, Named
from harness.serving.pool import Pool, keep_only, pool_of, stop_all
from harness.serving.ports import free_port, is_of
from harness.types import Message, Sampling

STUB = str(Path(__file__).with_name("stub.py"))


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    stop_all()


def stub(*words: str, **fields: Any) -> Engine:
    return Engine(name="command", command=(sys.executable, STUB, "{port}", *words), **fields)


def is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_calls_go_to_the_replica_with_the_fewest(tmp_path: Path) -> None:
    pool = pool_of(stub("0.3", replicas=2), tmp_path)
    assert pool is pool_of(stub("0.3", replicas=2), tmp_path)
    with ExitStack() as calls:
        addresses = [calls.enter_context(pool.address()) for _ in range(4)]
    assert len(set(addresses)) == 2
    assert [addresses.count(address) for address in set(addresses)] == [2, 2]
    assert all(is_up(address) for address in addresses)
    stop_all()
    assert not any(is_up(address) for address in addresses)
    assert "ready" in next(tmp_path.glob("command-*-0-*.log")).read_text()


def test_an_engine_that_is_not_needed_any_more_is_stopped(tmp_path: Path) -> None:
    one, other = stub(), stub("0.1")
    with pool_of(one, tmp_path).address() as kept, pool_of(other, tmp_path).address() as ended:
        pass
    keep_only([one])
    assert is_up(kept)
    assert not is_up(ended)


def test_one_that_fails_is_a_line_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught, pool_of(stub("0", "fails"), tmp_path).address():
        pass
    message = str(caught.value)
    assert "ended while it started (RuntimeError: out of memory on device 0)" in message
    assert str(next(tmp_path.glob("command-*-0-*.log"))) in message
    assert len(message.splitlines()) == 1


def test_a_program_that_does_not_exist_is_a_line(tmp_path: Path) -> None:
    engine = Engine(name="command", command=("/nowhere/vllm", "{port}"))
    with pytest.raises(ModelError, match="No such file"), pool_of(engine, tmp_path).address():
        pass


def test_one_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not ready within 0\.5 s"):
        pool_of(stub("60", seconds=0.5), tmp_path).address().__enter__()


def test_a_dead_replica_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    pool = Pool(stub(restarts=1), tmp_path)
    for _ in range(2):
        with pool.address() as address:
            assert is_up(address)
        replica = pool.replicas[0]
        assert replica._process
        replica._process.kill()
        replica._process.wait()
    with pytest.raises(ModelError, match="replica 0 died 2 times"), pool.address():
        pass
    pool.stop()


def test_one_that_hangs_is_started_again_and_its_calls_asked_again(tmp_path: Path) -> None:
    """`hangs`: the whole process stops; `stalls`: it says that it is ready, and answers no call."""
    for how in ("hangs", "stalls"):
        log = tmp_path / how
        engine = stub("0", how, silence=0.3, environment={"STUB_LOG": str(log)})
        made = {"name": "openai", "model": "m", "engine": Named("e", engine), "timeout": 0.5}
        generator: Any = build("generator", made)
        pool_of(engine, tmp_path)
        rows: list[Any] = []
        prompts = [(Message(role="user", content=f"{i}"),) for i in range(9)]
        requests = [SampleRequest(prompt, Sampling(), (0,)) for prompt in prompts]
        generator.generate(requests, seed=0, arrived=rows.extend)
        assert sorted(row.request for row in rows) == list(range(9))
        assert log.with_name(f"{how}.died").exists()
        (replica,) = pool_of(engine).replicas
        assert replica.log.read_text().count("$ ") == 2


def test_one_that_is_slow_and_counts_tokens_is_left_to_it(tmp_path: Path) -> None:
    engine = stub("0", "slow", silence=0.2)
    pool = pool_of(engine, tmp_path)
    made = {"name": "openai", "model": "m", "engine": Named("e", engine), "timeout": 0.5}
    generator: Any = build("generator", made)
    rows: list[Any] = []
    request = SampleRequest((Message(role="user", content="u"),), Sampling(), (0,))
    generator.generate([request], seed=0, arrived=rows.extend)
    assert len(rows) == 1
    assert pool.replicas[0].log.read_text().count("$ ") == 1


def test_what_asks_for_a_model_shares_the_server_of_its_adapters(tmp_path: Path) -> None:
    plain = Engine(model="smollm2-135m-instruct", options={"max-model-len": 99})
    of_answers = plain.of("smollm2-135m-instruct", None, "bfloat16", 4)
    assert of_answers.serves(plain)
    assert of_answers.serves(of_answers)
    assert not plain.serves(of_answers), "it takes no adapters"
    assert not plain.of("smollm2-135m-instruct", None, "float32", 4).serves(plain), "it computes otherwise"
    in_float32 = plain.model_copy(update={"options": {"max_model_len": 99, "dtype": "float32"}})
    assert plain.of("smollm2-135m-instruct", None, "float32", 4).serves(in_float32)
    assert not of_answers.serves(Engine(model="other", options={"max_model_len": 99}))
    try:
        pool = pool_of(of_answers, tmp_path)
        assert pool_of(plain, tmp_path) is pool
        keep_only([plain])
        assert pool_of(of_answers, tmp_path) is pool
    finally:
        keep_only([])
    assert pool_of(plain, tmp_path) is not pool


def test_a_port_that_another_program_has_taken_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pool_of(stub(), tmp_path).address() as taken, monkeypatch.context() as ports:
        found = iter([int(taken.rpartition(":")[2])])
        ports.setattr("harness.serving.replica.free_port", lambda: next(found, None) or free_port())
        with pool_of(stub("0.1"), tmp_path).address() as address:
            assert address != taken
            assert is_up(address)
        assert is_up(taken)


def test_who_listens_on_a_port_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["sleep", "9"]) as other:
        port = server.getsockname()[1]
        assert is_of(os.getpid(), port)
        assert not is_of(other.pid, port)
        other.kill()
    assert not is_of(os.getpid(), port)


def test_engines_have_gpus_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    one, other = stub(gpus=1, replicas=2), stub("0.1", gpus=2)
    assert [*pool_of(one, tmp_path).devices] == [0, 1]
    assert [*pool_of(other, tmp_path).devices] == [2, 3]
    keep_only([other])
    assert [*pool_of(one, tmp_path).devices] == [0, 1]
    # A scheduler may have given this process others than the first.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5,6")
    assert variables_of(one, (1, 2))["CUDA_VISIBLE_DEVICES"] == "GPU-5,6"
    with pytest.raises(ModelError, match="need 4 GPUs, and CUDA_VISIBLE_DEVICES allows 3"):
        variables_of(other, (2, 3))


def test_engines_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = f"""
    import sys
    from pathlib import Path
    from harness.serving.engine import Engine
    from harness.serving.ports import free_port, is_of
from harness.serving.pool import pool_of
    engine = Engine(name="command", command=({sys.executable!r}, {STUB!r}, "{{port}}"), replicas=2)
    pool = pool_of(engine, Path({str(tmp_path)!r}))
    with pool.address() as one, pool.address() as other:
        print(one, other, flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        addresses = parent.stdout.readline().split()
        assert all(is_up(address) for address in addresses)
        parent.kill()
    for _ in range(100):
        if not any(is_up(address) for address in addresses):
            break
        time.sleep(0.1)
    assert not any(is_up(address) for address in addresses)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "vllm"}, "vllm needs `model`"),
        ({"name": "command"}, "needs `command`"),
        ({"name": "command", "command": ["serve"]}, "expected {port}"),
        ({"name": "vllm", "model": "a/b", "command": ["x", "{port}"]}, "`command` is for name: command"),
        ({"model": "a/b", "python": "/nowhere/python", "options": {"port": 1}}, "the harness sets its port"),
        ({"model": "a/b", "environment": {"HF_TOKEN": "x"}}, "may hold a secret"),
    ],
)
def test_what_cannot_be_started_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("}", r"\}")):
        Engine(**fields)


def test_options_are_words_of_the_command() -> None:
    options: dict[str, Any] = {
        "max_model_len": 4096,
        "enforce-eager": True,
        "enable_prefix_caching": False,
        "seed": None,
    }
    engine = Engine(model="a/b", python=Path(sys.executable), options=options, gpus=2)
    words = command_of(engine, 8001)
    assert words[:4] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    assert words[-4:] == ["--max-model-len", "4096", "--enforce-eager", "--no-enable-prefix-caching"]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert variables_of(engine, (2, 3))["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert variables_of(engine, (2, 3))["VLLM_NO_USAGE_STATS"] == "1"
