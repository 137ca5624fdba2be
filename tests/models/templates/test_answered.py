"""Answers that are trained on or scored, and variables, against the chat templates that TRL ships."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError
from harness.models import chat
from harness.models import load as models
from harness.models.templates.answered import bridge, notice
from harness.models.templates.rendering import render
from harness.models.templates.variables import variables, with_variables
from harness.types import Message
from tests.tiny import CHAT_TEMPLATE

TRL = {p.name: p.read_text() for p in files("trl").joinpath("chat_templates").iterdir() if p.name.endswith(".jinja")}
BRIDGED = {
    "deepseek_r1_distill.jinja": "\n</think>\n\n",
    "glm4moe.jinja": "\n<think></think>\n",
    "gptoss.jinja": "<|channel|>final<|message|>",
    "nemotron_3_nano.jinja": "<think></think>",
    "qwen3.jinja": "<think>\n\n</think>\n\n",
    "qwen3_5_think.jinja": "\n</think>\n\n",
    "qwen2_5.jinja": "",
    "llama3_2.jinja": "",
    "gemma3.jinja": "",
    "phi3.jinja": "",
}
TURNS = [
    Message(role="user", content="Where is Rome?"),
    Message(role="assistant", content="In Italy."),
    Message(role="user", content="And Oslo?"),
]
ANSWER = "In Norway."
OPENS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}model: {% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return models.load_tokenizer(str(tiny_model))


def squeezed(text: str) -> str:
    """Answers are tokenised apart from blanks around them."""
    return "".join(text.split())


@pytest.mark.parametrize("name", sorted(TRL))
@pytest.mark.parametrize("turns", [1, 3])
def test_a_prompt_with_its_answer_is_the_templates_own_conversation(tokenizer: Any, name: str, turns: int) -> None:
    """Only where the template drops a thought that its own prompt opens, that one stands there, closed."""
    tokenizer.chat_template = TRL[name]
    messages = TURNS[-turns:]
    encoded = chat.encode(tokenizer, messages, ANSWER, max_prompt_length=10**6, max_length=10**6)
    ours = tokenizer.decode(encoded.prompt + encoded.response[:-1])
    whole = render(tokenizer, [*messages, Message(role="assistant", content=ANSWER)])
    theirs = whole[: whole.rindex(ANSWER)] + ANSWER
    if name.startswith("deepseek"):
        assert ours.endswith(f"<think>\n\n</think>\n\n{ANSWER}")
        ours = ours.replace("<think>\n\n</think>\n\n", "")
    assert squeezed(ours) == squeezed(theirs)


@pytest.mark.parametrize(("name", "text"), BRIDGED.items())
def test_what_stands_before_an_answer_is_said(tokenizer: Any, name: str, text: str) -> None:
    tokenizer.chat_template = TRL[name]
    said = notice(tokenizer)
    assert bridge(tokenizer).text == text
    assert (repr(text) in said) if text and said else said is None
    prompt = chat.encode_prompt(tokenizer, TURNS[:1])
    assert tokenizer.decode(prompt) == render(tokenizer, TURNS[:1], add_generation_prompt=True)


def test_a_template_that_begins_answers_otherwise_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = OPENS
    with pytest.raises(ModelError, match=r"before an answer its chat template writes .*assistant: .*model: "):
        chat.encode(tokenizer, TURNS, ANSWER, max_prompt_length=99, max_length=99)
    tokenizer.chat_template = OPENS.replace("{{ m.content }}", "{{ '' if m.role == 'assistant' else m.content }}")
    with pytest.raises(ModelError, match="leaves out the answer"):
        bridge(tokenizer)


# Variables.


def test_the_variables_of_templates() -> None:
    assert variables(TRL["qwen3.jinja"]) == {"enable_thinking"}
    assert "reasoning_effort" in variables(TRL["gptoss.jinja"])
    assert variables(TRL["qwen2_5.jinja"]) == set()
    deepseek = "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    deepseek += "{% set own = 1 %}{{ thinking }}{{ own }}"
    assert variables(deepseek) == {"thinking"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("qwen3.jinja", {"enable_thinking": False}),
        ("qwen3_5_think.jinja", {"enable_thinking": False}),
        ("glm4moe.jinja", {"enable_thinking": False}),
        ("gptoss.jinja", {"reasoning_effort": "low"}),
        ("gemma4.jinja", {"enable_thinking": True}),
        ("nemotron_3_nano.jinja", {"enable_thinking": False, "truncate_history_thinking": False}),
    ],
)
def test_values_are_those_of_apply_chat_template(tokenizer: Any, name: str, values: dict[str, Any]) -> None:
    """An oracle that isn't ours: transformers, given the same by its caller. What a caller says goes first."""
    rows = [m.model_dump() for m in TURNS]
    options: dict[str, Any] = {"chat_template": TRL[name], "tokenize": False, "add_generation_prompt": True}
    expected = tokenizer.apply_chat_template(rows, **options, **values)
    without = tokenizer.apply_chat_template(rows, **options)
    tokenizer.chat_template = TRL[name]
    for _ in range(2):  # a checkpoint's template has them already
        with_variables(tokenizer, values)
        assert render(tokenizer, TURNS, add_generation_prompt=True) == expected != without
    other = {key: not value if isinstance(value, bool) else "high" for key, value in values.items()}
    theirs = tokenizer.apply_chat_template(rows, **options, **other)
    assert tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True, **other) == theirs


@pytest.mark.parametrize("value", [None, True, -1.5, 'a "b" \\ \n {{ x }} %} é 😀', [1, {"k": [None, "v"]}]])
def test_any_plain_value_arrives(tokenizer: Any, value: Any) -> None:
    tokenizer.chat_template = "  {% if true %}{{ x | tojson }} {{ x is none }}{% endif %}"
    rows = [{"role": "user", "content": "x"}]
    expected = tokenizer.apply_chat_template(rows, tokenize=False, x=value)
    assert with_variables(tokenizer, {"x": value}).apply_chat_template(rows, tokenize=False) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (TRL["qwen3.jinja"], "doesn't mention 'enable_thinkng'; did you mean 'enable_thinking'"),
        (CHAT_TEMPLATE, "doesn't mention 'enable_thinkng', nor any other variable; remove it"),
    ],
)
def test_a_variable_that_the_template_does_not_mention(tokenizer: Any, template: str, message: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=message):
        with_variables(tokenizer, {"enable_thinkng": False})
