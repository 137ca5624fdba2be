"""A served reward model, against a server on this machine: what each format sends, and what is made of replies."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import ModelError
from harness.models import chat
from harness.models import load as models
from harness.models.classifier import classifier_ids
from harness.protocols import Ready
from harness.serving.engine import Engine, Named
from harness.types import Message
from tests.fake_server import FakeServer
from tests.rewards.test_encoders import encoder

PROMPT = (Message(role="system", content="s"), Message(role="user", content="u"))
ROWS = [(PROMPT, "word " * n) for n in range(1, 21)]


def root(server: FakeServer) -> str:
    return server.url.removesuffix("/v1")


def reward(url: str, **fields: Any) -> Any:
    return build("reward", {"name": "api", "model": "m", "base_url": url, "max_retries": 0} | fields)


def ready(keep: Any = lambda rows: None) -> Ready:
    return Ready(Path(), lambda n: None, lambda judge: pytest.fail("asks a judge"), keep=keep)


def classified(*outputs: float | None) -> dict[str, Any]:
    row = {"index": 0, "label": "LABEL_0", "probs": list(outputs), "num_classes": len(outputs)}
    return {"id": "x", "object": "list", "data": [row]}


def words(body: dict[str, Any]) -> float:
    return float(len(body["messages"][-1]["content"].split()))


def test_classify_sends_the_conversation_and_asks_for_logits() -> None:
    kept: list[tuple[int, float | None]] = []
    with FakeServer(lambda body: classified(words(body) / 7)).running() as server:
        scores = reward(root(server)).score(ROWS, ready(kept.extend))
    assert scores == pytest.approx([n / 7 for n in range(1, 21)])
    assert sorted(kept) == [(i, s) for i, s in enumerate(scores)]
    body = server.requests[0]
    assert body["use_activation"] is False
    assert body["messages"][:2] == [m.model_dump() for m in PROMPT]
    assert body["messages"][2]["role"] == "assistant"


def test_the_path_follows_the_format(tiny_model: Path) -> None:
    pooled = {"data": [{"data": [[9.0], [-0.5]]}]}
    native = [{"embedding": [-0.5], "meta_info": {}}]
    replies = {"classify": classified(-0.5), "pooling": pooled, "sglang": native, "openrlhf": {"rewards": [-0.5]}}
    for format, reply in replies.items():
        tokenizer = {"tokenizer": str(tiny_model)} if format in ("sglang", "openrlhf") else {}
        with FakeServer(lambda body, reply=reply: reply).running() as server:
            assert reward(root(server), format=format, **tokenizer).score(ROWS[:2], ready()) == [-0.5, -0.5]
        path = {"openrlhf": "/get_reward", "pooling": "/pooling"}.get(format, "/classify")
        assert server.paths == [path] * 2


def test_with_a_tokenizer_the_text_is_made_here(tiny_model: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny_model))
    ids = chat.encode_prompt(tokenizer, PROMPT) + chat.encode_response(tokenizer, ROWS[0][1])
    with FakeServer(lambda body: classified(-0.5)).running() as server:
        reward(root(server), tokenizer=str(tiny_model)).score(ROWS[:1], ready())
    assert server.requests[0]["input"] == ids
    with FakeServer(lambda body: [{"embedding": [-0.5]}]).running() as server:
        reward(root(server), tokenizer=str(tiny_model), format="sglang").score(ROWS[:1], ready())
    assert server.requests[0]["input_ids"] == ids
    with FakeServer(lambda body: classified(-0.5)).running() as server:
        made = reward(root(server), tokenizer=str(tiny_model), max_length=24)
        made.score([ROWS[19]], ready())
    assert server.requests[0]["input"] == classifier_ids(tokenizer, *ROWS[19], 24)[0]
    assert len(server.requests[0]["input"]) == 24
    assert made.identity() != reward("http://127.0.0.1:1", tokenizer=str(tiny_model)).identity()
    with pytest.raises(ValidationError, match="max_length needs `tokenizer`"):
        reward("http://127.0.0.1:1", max_length=24)
    with FakeServer(lambda body: {"rewards": [2.5]}).running() as server:
        made = reward(root(server), format="openrlhf", tokenizer=str(tiny_model))
        assert made.score(ROWS[:1], ready()) == [2.5]
    assert server.requests[0]["query"] == [tokenizer.decode(ids)]
    with pytest.raises(ValidationError, match="openrlhf needs the reward model's tokenizer"):
        reward("http://127.0.0.1:1", format="openrlhf")


def test_several_outputs_need_weights() -> None:
    with FakeServer(lambda body: classified(2.0, 0.5)).running() as server:
        assert reward(root(server), weights=[1, -2]).score(ROWS[:1], ready()) == [1.0]
        with pytest.raises(ModelError, match="m has 2 outputs; expected 1: set `weights`"):
            reward(root(server)).score(ROWS[:1], ready())


@pytest.mark.parametrize("form", ["classify", "pooling"])
def test_probabilities_are_refused_before_any_is_kept(form: str) -> None:
    """Those of one class by a softmax, which are all 1, and by a sigmoid, from a server that can't leave it out."""
    for share in (lambda n: 1.0, lambda n: 1 / (1 + math.exp(-n / 9))):
        server = FakeServer(lambda body, share=share: served(form, share(words(body))))
        with server.running(), pytest.raises(ModelError, match=r"may be probabilities .* return logits"):
            reward(root(server), format=form).score(ROWS, ready(lambda rows: pytest.fail("kept")))
        assert len(server.requests) == 16
        assert Counter(body["use_activation"] for body in server.requests) == {False: 8, True: 8}


def test_scores_between_0_and_1_are_kept_where_the_server_can_squash_them() -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        own = words(body) / 50
        return classified(1 / (1 + math.exp(-own)) if body["use_activation"] else own)

    with FakeServer(answer).running() as server:
        assert reward(root(server)).score(ROWS, ready()) == pytest.approx([n / 50 for n in range(1, 21)])
    assert len(server.requests) == 28
    with FakeServer(lambda body: classified(words(body) / 50)).running() as server:
        assert reward(root(server), bounded=True).score(ROWS[:2], ready()) == pytest.approx([0.02, 0.04])
    assert reward("http://127.0.0.1:1", bounded=True).identity() == reward("http://127.0.0.1:1").identity()


def test_scores_of_sglang_are_refused_if_many_lie_between_0_and_1(tiny_model: Path) -> None:
    with FakeServer(lambda body: [{"embedding": [0.5]}]).running() as server:
        made = reward(root(server), format="sglang", tokenizer=str(tiny_model))
        assert made.score(ROWS[:2], ready()) == [0.5, 0.5]
        with pytest.raises(ModelError, match="may be probabilities"):
            made.score(ROWS, ready())


def served(form: str, value: float) -> dict[str, Any]:
    return classified(value) if form == "classify" else {"data": [{"index": 0, "data": [value]}]}


def test_an_engine_of_vllm_gets_the_tokens_of_its_own_model(tiny_model: Path) -> None:
    named = Named("big", Engine(model=str(tiny_model)))
    assert build("reward", {"name": "api", "engine": named}).tokenizer == str(tiny_model)  # type: ignore[attr-defined]
    command = Named("big", Engine(name="command", command=("serve", "{port}")))
    assert build("reward", {"name": "api", "engine": command, "model": "m"}).tokenizer is None  # type: ignore[attr-defined]


def test_an_encoder_of_two_texts_is_refused(tmp_path: Path) -> None:
    encoder(tmp_path, "bert")
    with pytest.raises(ModelError, match="is an encoder, which reads two texts"):
        reward("http://127.0.0.1:1", tokenizer=str(tmp_path)).score(ROWS[:1], ready())


def test_what_is_refused_or_not_finite_is_not_scored() -> None:
    def answer(body: dict[str, Any]) -> Any:
        if words(body) == 3:
            return 400, {"error": {"message": "too long"}}, {}
        return classified(None if words(body) == 4 else words(body))

    with FakeServer(answer).running() as server:
        scores = reward(root(server)).score(ROWS[:5], ready())
    assert scores == [1.0, 2.0, None, None, 5.0]


def test_a_server_that_refuses_most_responses_is_an_error_and_no_refusal_is_kept() -> None:
    kept: dict[int, float | None] = {}

    def answer(body: dict[str, Any]) -> Any:
        refused = 400, {"error": {"message": "no more today"}}, {}
        return refused if words(body) > 8 else classified(words(body))

    with FakeServer(answer).running() as server, pytest.raises(ModelError, match="no more today"):
        reward(root(server)).score(ROWS, ready(lambda rows: kept.update(rows)))
    assert sorted(kept) == list(range(8))
    assert None not in kept.values()


def test_a_server_that_fails_loses_nothing_that_it_gave() -> None:
    kept: dict[int, float | None] = {}

    def answer(body: dict[str, Any]) -> Any:
        return (500, {"error": "down"}, {}) if words(body) == 15 else classified(words(body))

    with FakeServer(answer).running() as server, pytest.raises(ModelError, match=r"1 of 20 .* are kept: run again"):
        reward(root(server)).score(ROWS, ready(lambda rows: kept.update(rows)))
    assert set(kept) == set(range(20)) - {14}
    said = r"the reply is not that of /classify: \{'data': \[\]\}"
    with FakeServer(lambda body: {"data": []}).running() as server, pytest.raises(ModelError, match=said):
        reward(root(server)).score(ROWS[:1], ready())
    refusing = FakeServer(lambda body: (401, {"error": "no"}, {}))
    with refusing.running() as server, pytest.raises(ModelError, match="the server refused m"):
        reward(root(server)).score(ROWS, ready())


def test_what_changes_a_score_is_in_the_identity() -> None:
    first = reward("http://127.0.0.1:1/")
    assert first.identity() == reward("http://127.0.0.1:1", concurrency=2, timeout=3).identity()
    for other in ({"format": "pooling"}, {"weights": [2]}, {"model": "n"}):
        assert reward("http://127.0.0.1:1", **other).identity() != first.identity()
