"""Conversations that stand in one text: read as messages, or refused with the row's place; and columns that aren't
read."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.data.messages import KEPT_AS_TEXT
from harness.data.read import LoadedPairs, read_pairs
from harness.errors import DataError
from harness.seeds.jsonl import Jsonl

SYSTEM, USER, ASSISTANT = "Be brief.", "What is 1 + 1?", "Do you mean the sum?"


def load(*rows: dict[str, Any], **options: Any) -> LoadedPairs:
    return read_pairs(((f"f:{i}", row) for i, row in enumerate(rows, 1)), "f", "s", **options)


def read(row: dict[str, Any]) -> tuple[list[tuple[str, str]], str, str]:
    (pair,) = load(row).pairs
    return [(m.role, m.content) for m in pair.messages], pair.chosen, pair.rejected


def one_turn(prompt: str, end: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": f"2.{end}", "rejected": f" No.{end}"}


TEMPLATED = {  # the templates of ChatML, Llama 3, Llama 2, Gemma, Zephyr, Phi, DeepSeek, Command R, OpenAssistant
    "chatml": one_turn(
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n",
    ),
    "llama 3": one_turn(
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|><|start_header_id|>user"
        f"<|end_header_id|>\n\n{USER}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "llama 2": one_turn(f"<s>[INST] <<SYS>>\n{SYSTEM}\n<</SYS>>\n\n{USER} [/INST]", " </s>"),
    "gemma": one_turn(f"<bos><start_of_turn>user\n{USER}<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n"),
    "zephyr": one_turn(f"<|system|>\n{SYSTEM}</s>\n<|user|>\n{USER}</s>\n<|assistant|>\n", "</s>\n"),
    "phi": one_turn(f"<|user|>\n{USER}<|end|>\n<|assistant|>\n", "<|end|>"),
    "deepseek": one_turn(f"<｜begin▁of▁sentence｜>{SYSTEM}<｜User｜>{USER}<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "command r": one_turn(
        f"<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{USER}<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
    ),
    "oasst": one_turn(f"<|prompter|>{USER}<|endoftext|><|assistant|>", "<|endoftext|>"),
}


@pytest.mark.parametrize("name", TEMPLATED)
def test_rows_that_are_in_a_chat_template_already(name: str, caplog: pytest.LogCaptureFixture) -> None:
    messages, chosen, rejected = read(TEMPLATED[name])
    assert messages[-1] == ("user", USER)
    assert messages[:-1] == ([("system", SYSTEM)] if SYSTEM in TEMPLATED[name]["prompt"] else [])
    assert (chosen, rejected) == ("2.", "No.")
    assert "f: read as pairs: chat template" in caplog.text


def whole(answer: str) -> str:
    return f"<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": f"<|im_start|>user\n{USER}<|im_end|>\n", "chosen": "<|im_start|>assistant\n2.<|im_end|>\n",
         "rejected": "<|im_start|>assistant\nNo.<|im_end|>\n"},
        {"chosen": whole("2."), "rejected": whole("No.")},
        {"prompt": USER, "chosen": whole("2."), "rejected": whole("No.")},
        {"prompt": USER, "chosen": "2.<|eot_id|>", "rejected": "No.<|eot_id|>\n"},
        {"prompt": USER, "chosen": f"\n\nHuman: {USER}\n\nAssistant: 2.",
         "rejected": f"\n\nHuman: {USER}\n\nAssistant: No."},
        {"prompt": f"\n\nHuman: {USER}", "chosen": "\n\nAssistant: 2.", "rejected": "\n\nAssistant: No."},
        {"prompt": f"USER: {USER} ASSISTANT:", "chosen": " 2.</s>", "rejected": " No.</s>"},
        {"instruction": f"### Instruction:\n{USER}\n\n### Response:\n", "chosen": "2.", "rejected": "No."},
    ],
)  # fmt: skip
def test_templates_and_transcripts_in_other_columns(row: dict[str, str]) -> None:
    assert read(row) == ([("user", USER)], "2.", "No.")


PREAMBLE = "A chat between a curious user and an artificial intelligence assistant. The assistant is polite."


@pytest.mark.parametrize(
    ("prompt", "system"),
    [
        (f"\n\nHuman: Hi\n\nAssistant: {ASSISTANT}\n\nHuman: {USER}\n\nAssistant:", None),
        (f"Human: Hi\nAssistant: {ASSISTANT}\nHuman: {USER}\nAssistant: ", None),
        (f"User: Hi\nAssistant: {ASSISTANT}\nUser: {USER}\nAssistant:", None),
        (f"System: {SYSTEM}\nUser: Hi\nAssistant: {ASSISTANT}\nUser: {USER}\nAssistant:", SYSTEM),
        (f"{PREAMBLE} USER: Hi ASSISTANT: {ASSISTANT}</s>USER: {USER} ASSISTANT:", PREAMBLE),
        (f"### Human: Hi\n### Assistant: {ASSISTANT}\n### Human: {USER}\n### Assistant:", None),
        (f"<human>: Hi\n<bot>: {ASSISTANT}\n<human>: {USER}\n<bot>:", None),
        (f"<s>[INST] Hi [/INST] {ASSISTANT} </s><s>[INST] {USER} [/INST]", None),
    ],
)
def test_a_prompt_that_is_a_transcript(prompt: str, system: str | None) -> None:
    messages, *answers = read({"prompt": prompt, "chosen": " 2.", "rejected": " No."})
    earlier = [("user", "Hi"), ("assistant", ASSISTANT), ("user", USER)]
    assert messages == ([("system", system)] if system else []) + earlier
    assert answers == ["2.", "No."]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What does <|im_end|> mean?", "chosen": "It ends a turn: <|im_end|> is one token.", "rejected": "a"},
        {"prompt": "Strike it.", "chosen": "<s>it</s>", "rejected": "it"},
        {"prompt": "What is [INST] for?", "chosen": "A mark.", "rejected": "a"},
        {"prompt": "Give JSON.", "chosen": '[{"value": 3}]', "rejected": "[{'role': 'admin', 'n': 2}]"},
        {"prompt": "Human: A Musical is a play. When?", "chosen": "2001", "rejected": "a"},
        {"prompt": "Write a dialogue.", "chosen": "User: Hi\nAssistant: Hello", "rejected": "User: Hm\nAssistant: No"},
        {"prompt": "User: Hi\nAssistant: Hello\n\nSummarise the dialogue.", "chosen": "A greeting.", "rejected": "a"},
        {"prompt": "Q: 2 + 2?\nA:", "chosen": " 4", "rejected": " 5"},
    ],
)
def test_texts_about_templates_and_dialogues_stay_as_they_are(row: dict[str, str]) -> None:
    loaded = load(row)
    assert read(row) == ([("user", row["prompt"])], row["chosen"], row["rejected"])
    assert set(loaded.read_as) <= {KEPT_AS_TEXT}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": f"See: {whole('2.')}"}, "prompt: turns of a chat template .* after other text"),
        ({"chosen": "Hi<|im_end|>\n<|im_start|>user\nMore<|im_end|>"}, "chosen: turns of a chat template"),
        ({"prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>tool\nx<|im_end|>"}, "got 'tool'"),
        ({"prompt": "<|im_start|>user\nHi<|im_end|> more\n<|im_start|>assistant\n"}, "nothing after the end of a turn"),
        ({"prompt": whole("2.")}, "expected the last turn to be the user's, got the assistant's"),
        ({"prompt": "[INST] a [INST] b [/INST]"}, r"expected \[INST\] and \[/INST\] in turn"),
        ({"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " a\n\nHuman: b\n\nAssistant: c"}, "got further turns"),
        ({"chosen": "[{'role': 'user', 'content': 'x'}, {'role': 'assis"
                    "tant', 'content': }]"}, "chosen: a list of messages that became text, and can't be read"),
        ({"chosen": "[{'role': 'user', 'content': 3}]"}, "expected {role, content} in each"),
        ({"tools": '[{"name": "search"}]'}, "tools: belongs to the prompt and can't be read; leave it out, or name"),
        ({"images": ["a.png"]}, "images: belongs to the prompt"),
        ({"history": "Hi. Hello."}, "history: expected a list of"),
        ({"chosen": [{"role": "assistant", "content": "x", "tool_calls": [{"f": 1}]}]}, "messages with tool_calls"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_stops_with_the_row(row: dict[str, Any], said: str) -> None:
    plain = {"prompt": USER, "chosen": "2.", "rejected": "No."}
    with pytest.raises(DataError, match=f"^f:2: .*{said}") as caught:
        load({**plain, "prompt": "Hi"}, {**plain, **row})
    assert "\n" not in str(caught.value)
    assert load({**plain, "prompt": "Hi"}, {**plain, **row}, strict=False).left_out["unreadable"] == 1


def as_numpy(value: list[dict[str, str]]) -> str:
    import numpy as np

    return str(np.array(value, dtype=object))


def shared_as_gpt(value: list[dict[str, str]]) -> str:
    names = {"user": "human", "assistant": "gpt"}
    return json.dumps([{"from": names[m["role"]], "value": m["content"]} for m in value])


@pytest.mark.parametrize("shown", [str, json.dumps, as_numpy, lambda v: f"array({v!r}, dtype=object)", shared_as_gpt])
def test_lists_of_messages_that_became_text(shown: Callable[[Any], str]) -> None:
    odd = 'It\'s "2".\n\\n } {, array('
    conversations = [[{"role": "user", "content": USER}, {"role": "assistant", "content": a}] for a in (odd, "No.")]
    chosen, rejected = map(shown, conversations)
    expected = ([("user", USER)], odd, "No.")
    assert read({"prompt": USER, "chosen": chosen, "rejected": rejected}) == expected
    assert read({"chosen": chosen, "rejected": rejected}) == expected
    assert read({"prompt": shown(conversations[0][:1]), "chosen": odd, "rejected": "No."})[0] == expected[0]


def test_earlier_turns_in_a_column() -> None:
    row = {"prompt": USER, "chosen": "2.", "rejected": "No.", "history": [["Hi", "Hello!"]], "system_prompt": SYSTEM}
    turns = [("system", SYSTEM), ("user", "Hi"), ("assistant", "Hello!"), ("user", USER)]
    assert read(row) == (turns, "2.", "No.")


def test_columns_that_are_not_read_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    row = {"chosen": "2.", "rejected": "No.", "score": 3, "note": "", "tools": "[]", "history": []}
    thinking = [{"role": "assistant", "content": "2.", "thinking": "Hm."}]
    rows = [{**row, "prompt": "a"}, {**row, "prompt": "b", "evil\x1b[31m\n": 1, "chosen": thinking}]
    loaded = load(*rows)
    assert loaded.ignored_columns == {"score": 2, "evil\x1b[31m\n": 1, "chosen[].thinking": 1}
    (record,) = caplog.records
    assert record.getMessage().startswith("f: ignored columns: score (2 rows), ")
    assert "\x1b" not in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        from harness.data.pairs import Columns

        load({**rows[0], "tools": "[1]"}, columns=Columns(prompt="prompt"))
    assert not caplog.records  # whoever names columns means to leave out the others


def test_the_identity_of_ordinary_rows_is_that_of_their_content(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"

    def identity(row: dict[str, str]) -> dict[str, Any]:
        path.write_text(json.dumps(row) + "\n")
        seed = build("seed", {"name": "jsonl", "path": str(path)})
        assert isinstance(seed, Jsonl)
        return seed.identity()

    assert set(identity({"prompt": USER, "chosen": "2.", "rejected": "No.", "id": "7"})) == {
        "name", "limit", "weight", "columns", "sha256"
    }  # fmt: skip
    # What an earlier version trained as text must not be taken for what is read now.
    assert identity(TEMPLATED["chatml"])["read_as_messages"] == {"chat template <|im_start|>": 1}


def test_a_long_text_takes_no_long_time() -> None:
    for text in ("[{" * 200_000, " " * 400_000 + "x", "### " * 100_000, "\n\nHuman:" * 50_000, "<|im_end|>" * 40_000):
        load({"prompt": f"x{text}", "chosen": f"{text}y", "rejected": "No."}, strict=False)


def test_all_responses_of_a_ranked_row_are_kept() -> None:
    responses = [{"text": t, "source": "m", "score": s} for t, s in (("a", 0.5), ("b", 2.0), ("c", None), ("d", -1.0))]
    row = {"id": "x", "messages": [{"role": "user", "content": USER}], "responses": responses, "source": "s"}
    (pair,) = load(row).pairs
    assert (pair.chosen, pair.rejected) == ("b", "d")
    assert [(r.text, r.score, r.source) for r in pair.responses] == [
        ("b", 2.0, "seed:chosen"), ("a", 0.5, "m"), ("d", -1.0, "seed:rejected")
    ]  # fmt: skip
    tied = {**row, "responses": [{**r, "score": 1.0} for r in responses]}
    with pytest.raises(DataError, match="all 1 rows have the same text as chosen and rejected, or tied scores"):
        load(tied)
    with pytest.raises(DataError, match=r"f:1: messages: expected a conversation that ends with the user's"):
        load({**row, "messages": []})
    with pytest.raises(DataError, match=r"columns not recognised: .*; convert it with harness import --format simpo"):
        load({"prompt": USER, "all_generated_responses": ["a", "b"], "all_rm_scores": [1, 2]})
