"""What a real vLLM reads and says of it, against this process: the token ids of prompts, the log-probabilities of given
texts, and the outputs of a classifier. Run as `test_vllm`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.components import build
from harness.errors import ModelError
from harness.logprobs.score import score_rows
from harness.models import chat
from harness.models.load import load_causal_lm, load_tokenizer
from harness.protocols import Ready
from harness.servers.adapting.continuing import Continuing, Given
from harness.serving.engine import Engine, Named
from harness.serving.pool import pool_of, stop_all
from tests.engines.test_vllm import ENVIRONMENT, MODEL
from tests.engines.test_vllm import python as python  # a fixture
from tests.tiny import tiny_classifier

pytestmark = pytest.mark.soak

OPTIONS = {"enforce_eager": True, "max_model_len": 1024, "dtype": "float32"}
LENGTHS = {"max_prompt_length": 256, "max_length": 512}


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    stop_all()


def rows() -> list[tuple[Any, str]]:
    pairs = build("seed", {"name": "builtin", "limit": 12}).pairs()  # type: ignore[attr-defined]
    return [(pair.messages, text) for pair in pairs for text in (pair.chosen, pair.rejected)]


def test_prompts_and_log_probabilities(python: str) -> None:
    named = Named("big", Engine(model=MODEL, python=Path(python), options=dict(OPTIONS), environment=ENVIRONMENT))
    tokenizer = load_tokenizer(MODEL)
    encoded = [chat.encode(tokenizer, messages, text, **LENGTHS) for messages, text in rows()]
    with pool_of(named.engine).address() as address:
        for messages, _ in rows()[::2]:  # as prompts, responses and judges send them
            body = {"model": MODEL, "messages": [m.model_dump() for m in messages], "add_generation_prompt": True}
            reply = httpx.post(f"{address}/tokenize", json=body, timeout=60).json()
            assert reply["tokens"] == chat.encode_prompt(tokenizer, messages)
    asked = build("generator", {"name": "openai", "engine": named, "timeout": 600})
    assert isinstance(asked, Continuing)
    served: dict[int, float] = {}
    asked.logps(
        [Given(e.prompt, e.response) for e in encoded],
        arrived=lambda i, value: served.update({i: value}),
        threads=8,
        look=lambda: None,
    )
    stop_all()
    model = load_causal_lm(MODEL, None, "float32")
    scored = score_rows(model, tokenizer, rows(), **LENGTHS, batch_size=8, advance=lambda n: None)
    assert [served[i] for i in range(len(scored))] == pytest.approx([s.logp for s in scored], abs=2e-3)
    print(json.dumps({"largest difference in nats": max(abs(served[i] - s.logp) for i, s in enumerate(scored))}))


def test_a_classifier(tmp_path: Path, python: str) -> None:
    """By both endpoints, in float32; and one that squashes its outputs whatever it is asked is refused."""
    folder = tiny_classifier(tmp_path / "classifier")

    def scores(**fields: Any) -> list[float | None]:
        made = build("reward", {"dtype": "float32"} | fields if fields["name"] != "api" else fields)
        asked = Ready(tmp_path, lambda n: None, lambda judge: pytest.fail("asks a judge"))
        return made.score(rows(), asked)  # type: ignore[attr-defined, no-any-return]

    own = scores(name="sequence_classifier", model=str(folder), max_length=512)
    engine = Engine(model=str(folder), python=Path(python), options=dict(OPTIONS), environment=ENVIRONMENT)
    for form in ("classify", "pooling"):
        served = scores(name="api", engine=Named("rewards", engine), format=form, max_length=512)
        assert served == pytest.approx(own, abs=1e-4)
    assert min(x for x in own if x is not None) < 0
    with pool_of(engine).address() as address:
        body = {"model": folder.name, "input": [5, 6, 7], "use_activation": True}
        (row,) = httpx.post(f"{address}/classify", json=body, timeout=60).json()["data"]
        assert 0 < row["probs"][0] < 1
    squashing = {"name": "api", "base_url": address, "model": folder.name, "tokenizer": str(folder), "max_length": 512}
    with pytest.raises(ModelError, match="may be probabilities"):
        scores(**squashing, extra_body={"use_activation": True})
