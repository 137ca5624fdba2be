"""The same conversation is the same tokens everywhere and every day, whatever a chat template would make of it."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError
from harness.models import chat
from harness.models import load as models
from harness.models.templates import checking, rendering
from harness.models.templates.checking import check_prompts, orders_of_roles
from harness.types import Message, Messages
from tests.models.templates.test_round_trip import own, shipped, tokenizer_of
from tests.tiny import tiny_tokenizer

SYSTEM, USER = Message(role="system", content="Be brief."), Message(role="user", content="2 + 2?")
REPLY = Message(role="assistant", content="Four.")
REFUSES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
DATED = {
    "strftime_now": "{{ strftime_now('%d %b %Y %H:%M:%S') }}",
    "a default": "{% if not day is defined %}{% set day = strftime_now('%A') %}{% endif %}{{ day }}",
    "a macro": "{% macro now() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}{{ now() }}",
    "in a loop": "{% for x in [1, 2] %}{{ strftime_now('%j') }}{% endfor %}",
    "Llama 3.2": "{% if strftime_now is defined %}{% set d = strftime_now('%d %b %Y') %}{% else %}{% set d = '' %}"
    "{% endif %}Today Date: {{ d }}",
}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    tiny_tokenizer(tmp_path)
    return models.load_tokenizer(str(tmp_path))


def on(day: datetime.datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the clock that transformers shows to templates."""

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return day

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)


@pytest.mark.parametrize("template", [*DATED.values(), "llama3_2", "gptoss", "muse_glimmer"])
def test_a_prompt_is_the_same_on_two_days(tokenizer: Any, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if template in shipped():
        tokenizer = tokenizer_of(template)
    else:
        tokenizer.chat_template = template + "{% for m in messages %}{{ m.content }}{% endfor %}"
    theirs, ours = [], []
    for day in (datetime.datetime(2026, 11, 30, 5, 10), datetime.datetime(2027, 1, 2, 6, 20)):
        on(day, monkeypatch)
        from transformers.utils import chat_template_utils

        chat_template_utils._compile_jinja_template.cache_clear()
        theirs.append(tokenizer.apply_chat_template([USER.model_dump()], tokenize=False))
        ours.append(chat.encode_prompt(tokenizer, [USER]))
    assert theirs[0] != theirs[1]  # the template does ask for the date
    assert ours[0] == ours[1]
    assert rendering.fixed(tokenizer) == {"date": "2024-07-26"}


def test_llama_is_told_the_date_of_its_own_template() -> None:
    text = rendering.render(tokenizer_of("llama3_2"), [USER], add_generation_prompt=True)
    assert "Today Date: 26 Jul 2024" in text
    assert "Today Date: 26 Jul 2024" in rendering.render(tokenizer_of("llama3_1"), [USER])


@pytest.mark.parametrize("draw", ["{{ range(99999) | random }}", "{{ lipsum() }}", "{{ [1, 2] |random }}"])
def test_what_a_template_draws_is_always_the_same(tokenizer: Any, draw: str) -> None:
    import random

    tokenizer.chat_template = draw + "{% for m in messages %}{{ m.content }}{% endfor %}"
    random.seed(7)
    texts = {rendering.render(tokenizer, [USER]) for _ in range(3)}
    assert len(texts) == 1
    drawn = random.random()
    random.seed(7)
    assert random.random() == drawn  # nobody else's numbers change
    assert rendering.fixed(tokenizer) == {"draws": "seed 0"}


@pytest.mark.parametrize("name", ["gemma", "mistral_v0.1", "deaf"])
def test_a_system_message_that_is_not_taken_is_part_of_the_question(name: str) -> None:
    tokenizer = tokenizer_of(name)
    joined = Message(role="user", content="Be brief.\n\n2 + 2?")
    assert chat.encode_prompt(tokenizer, [SYSTEM, USER]) == chat.encode_prompt(tokenizer, [joined])
    turns = [SYSTEM, USER, REPLY, USER]
    assert chat.encode_prompt(tokenizer, turns) == chat.encode_prompt(tokenizer, [joined, REPLY, USER])
    late = [USER, REPLY, SYSTEM, USER]
    assert chat.encode_prompt(tokenizer, late) == chat.encode_prompt(tokenizer, [USER, REPLY, joined])
    nothing = Message(role="system", content=" ")
    assert chat.encode_prompt(tokenizer, [nothing, USER]) == chat.encode_prompt(tokenizer, [USER])
    lengths = {"max_prompt_length": 999, "max_length": 9999}
    assert chat.encode(tokenizer, [SYSTEM, USER], "4", **lengths) == chat.encode(tokenizer, [joined], "4", **lengths)


def test_templates_that_take_a_system_message_get_it() -> None:
    for name in ("llama3", "llama3_2", "qwen2_5", "qwen3", "gemma3", "phi3", "glm4", "deepseekv3", "mistral_small"):
        tokenizer = tokenizer_of(name)
        assert rendering.taken(tokenizer) == ("written", False)
        assert rendering.render(tokenizer, [SYSTEM, USER]) == own(tokenizer, [SYSTEM, USER])


@pytest.mark.parametrize("name", ["idefics3", "llava_next", "smolvlm"])
def test_a_template_for_images_is_given_lists_of_parts(name: str) -> None:
    tokenizer = tokenizer_of(name)
    assert rendering.taken(tokenizer).parts
    assert "2 + 2?" in tokenizer.decode(chat.encode_prompt(tokenizer, [USER]))
    assert "Four." in tokenizer.decode(chat.encode_prompt(tokenizer, [USER, REPLY, USER]))
    assert chat.end_of_turn(tokenizer) in tokenizer.added_tokens_decoder


def saved(tokenizer: Any, template: str, folder: Path) -> str:
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_prompts_are_checked_before_a_run(tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def prompts(*orders: tuple[Message, ...]) -> list[Messages]:
        return orders_of_roles(orders)

    checking.tell.cache_clear()
    model = saved(tokenizer, REFUSES, tmp_path)
    check_prompts(model, None, prompts((USER,), (USER, REPLY, USER)), False)
    assert not caplog.text
    check_prompts(model, None, prompts((SYSTEM, USER)), True)
    assert f"the chat template of {model} refuses system messages: they are put in front of the user's" in caplog.text
    with pytest.raises(ModelError, match=r"refuses system messages, which the seed has; set data\.system: fold"):
        check_prompts(model, None, prompts((SYSTEM, USER)), False)
    model = saved(tokenizer, shipped()["deaf"], tmp_path)
    check_prompts(model, None, prompts((SYSTEM, USER)), True)
    assert "leaves out system messages: they are put in front" in caplog.text
    model = saved(tokenizer, "{{ messages[-1].content }}", tmp_path)
    with pytest.raises(ModelError, match=r"leaves out message 1 \(user\) of the roles \[user, assistant, user\]"):
        check_prompts(model, None, prompts((USER, REPLY, USER)), True)
    model = saved(tokenizer, shipped()["mistral_v0.1"], tmp_path)
    with pytest.raises(ModelError, match=r"rejects the roles \[assistant, user\]: roles must alternate; use another"):
        check_prompts(model, None, prompts((REPLY, USER)), True)
    check_prompts("/no/such/model", None, prompts((USER,)), True)  # nothing is loaded


def test_a_template_that_leaves_answers_out_is_told_in_one_line(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(ModelError, match="its chat template leaves out the answer"):
        chat.end_of_turn(tokenizer)
