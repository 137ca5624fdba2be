"""A chat template is a stranger's program: it gets little time and memory, and one line says what it did."""

import contextlib
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError
from harness.models import chat
from harness.models import load as models
from harness.models.templates import rendering
from harness.types import Message
from tests.tiny import tiny_tokenizer

HELLO = [Message(role="user", content="Hello")]


@pytest.fixture(scope="module")
def shared_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    return models.load_tokenizer(str(folder))


@pytest.fixture
def tokenizer(shared_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rendering, "SECONDS", 0.05)
    monkeypatch.setattr(rendering, "MEMORY", 200 << 20)
    return shared_tokenizer


LARGE = {
    "a product": "{{ 'x' * 10**10 }}",
    "a product with a variable": "{% set n = 10 %}{{ 'x' * n**10 }}",
    "a list": "{{ ([1] * 10**9) | length }}",
    "padding": "{{ 'a'.ljust(10**11) }}",
    "a filter": "{{ 'a' | center(10**11) }}",
    "a format": "{{ '%99999999999d' % 1 }}",
    "another format": "{{ '{:>9999999999}'.format(1) }}",
    "replacement": "{{ ('a' * 10**6).replace('', 'b' * 10**6) }}",
    "doubling": "{% set n = namespace(s='x') %}{% for a in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "only for a longer message": "{% if messages[0].content | length > 3 %}{{ 'x' * 10**10 }}{% endif %}",
}
LONG = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "placeholder text": "{{ lipsum(n=10**9) }}",
    "many powers": "{{ 3**(2**24) % 7 }}" * 100,
}


@pytest.mark.parametrize("template", LARGE.values(), ids=LARGE)
def test_a_template_that_asks_for_gigabytes(tokenizer: Any, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "SECONDS", 30)  # a busy machine doubles slowly
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=r"its chat template takes more than 200 MB for 1 messages; use another model"):
        chat.encode_prompt(tokenizer, HELLO)


@pytest.mark.parametrize("template", LONG.values(), ids=LONG)
def test_a_template_that_runs_on(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=r"takes more than 0.05 s"):
        chat.encode_prompt(tokenizer, HELLO)


def test_a_template_that_writes_too_much_or_is_too_long(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ 'x' * 5 * 10**6 }}"
    with pytest.raises(ModelError, match="writes 5,000,000 characters for 1 messages"):
        chat.encode_prompt(tokenizer, HELLO)
    tokenizer.chat_template = "x" * (2 << 20)
    with pytest.raises(ModelError, match="more than 1,048,576 characters"):
        chat.encode_prompt(tokenizer, HELLO)


@pytest.mark.parametrize(
    "template", ["{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"]
)
def test_a_template_that_is_too_deep(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=r"rejects the roles \[user\]: maximum recursion depth"):
        chat.encode_prompt(tokenizer, HELLO)


def test_the_text_of_an_error_is_one_line(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no\n\nroles\n' * 1000) }}"
    with pytest.raises(ModelError) as caught:
        chat.encode_prompt(tokenizer, HELLO)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_long_messages_are_no_fault_of_the_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    text = "word " * 500_000
    assert rendering.render(tokenizer, [Message(role="user", content=text)]) == text


def test_the_limits_end_with_the_rendering(tokenizer: Any) -> None:
    limit, handler = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    for template in (LARGE["a product"], LONG["nested loops"], "fine"):
        tokenizer.chat_template = template
        with contextlib.suppress(ModelError):
            assert rendering.render(tokenizer, HELLO) == "fine"
        assert resource.getrlimit(resource.RLIMIT_AS) == limit
        assert signal.getsignal(signal.SIGVTALRM) == handler
        assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_threads_share_the_limits_in_turn(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = resource.getrlimit(resource.RLIMIT_AS)
    texts: list[str] = []
    at_once: list[int] = []

    def apply(rows: list[dict[str, str]], **_: object) -> str:
        at_once.append(1)
        time.sleep(0.002)
        others = len(at_once) - 1
        at_once.pop()
        return rows[0]["content"] + "!" * others

    monkeypatch.setattr(tokenizer, "apply_chat_template", apply)
    threads = [
        threading.Thread(target=lambda: texts.extend(rendering.render(tokenizer, HELLO) for _ in range(50)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert texts == ["Hello"] * 200
    assert resource.getrlimit(resource.RLIMIT_AS) == limit
