"""Conversations that stand in one text: rows of a chat template, transcripts, and lists of messages that became text.

Taken for plain text, they teach a policy the letters `<|im_end|>`, or to answer a whole transcript. What is unambiguous
is read as messages; what holds turns of a chat template but can't be read raises Unreadable. In a transcript without
special tokens (`User: ... Assistant:`), only the reply that is missing at its end tells a prompt from a text about one.
"""

import re
from typing import Any, NamedTuple

from harness.data.columns.contents import ROLES, Unreadable, is_message, plain_messages
from harness.data.columns.written import value_in

Turn = dict[str, Any]
"""{role: system, user or assistant; content: text}; in a list that became text, with the other fields of its
messages."""
MARKED_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
"""What begins a turn of a transcript that is marked as Anthropic's are."""
_ROLES = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("user", "human", "prompter", "instruction", "input"), "user"),
    **dict.fromkeys(("assistant", "model", "chatbot", "bot", "ai", "gpt", "response"), "assistant"),
}


class _Style(NamedTuple):
    """How a template or a transcript marks turns. `turn`: what begins one, with the role's name as its group. `end`:
    what may stand at the end of one. `start`: what may come before the first. `shown`: its sign, for messages."""

    shown: str
    turn: re.Pattern[str]
    end: str = ""
    start: str = ""


_TEMPLATES = (
    _Style("<|im_start|>", re.compile(r"<\|im_start\|>(\w+)[ \n]*"), r"<\|im_end\|>|<\|endoftext\|>|</?s>", "<s>"),
    _Style(
        "<|start_header_id|>",
        re.compile(r"<\|(?:start_header_id|header_start)\|>(\w+)<\|(?:end_header_id|header_end)\|>"),
        r"<\|eot(?:_id)?\|>|<\|end_of_text\|>",
        r"<\|begin_of_text\|>",
    ),
    _Style("<start_of_turn>", re.compile(r"<start_of_turn>(\w+)\n"), "<end_of_turn>|<eos>", "<bos>"),
    _Style(
        "<|user|>",
        re.compile(r"<\|(system|user|assistant|prompter)\|>:?"),
        r"<\|(?:end|endoftext|end_of_text)\|>|</s>",
        r"<s>|<\|begin_of_text\|>|\[gMASK\]<sop>",
    ),
    _Style(
        "<｜User｜>", re.compile(r"<[｜|](User|Assistant)[｜|]>"), "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"
    ),
    _Style(
        "<|USER_TOKEN|>",
        re.compile(r"<\|START_OF_TURN_TOKEN\|><\|(USER|CHATBOT|SYSTEM)_TOKEN\|>"),
        r"<\|END_OF_TURN_TOKEN\|>",
        "<BOS_TOKEN>",
    ),
    _Style("<|message|>", re.compile(r"<\|start\|>([^<]{1,40})<\|message\|>"), r"<\|(?:end|return)\|>"),
)
_TRANSCRIPTS = (
    _Style("Human:", re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")),
    _Style("User:", re.compile(r"(?:\A\s*|\n)(System|Human|User|Assistant|AI):")),
    _Style("USER:", re.compile(r"(?:\A\s*|\s|</s>)(SYSTEM|USER|ASSISTANT):"), "</s>"),
    _Style(
        "### Instruction:", re.compile(r"(?:\A\s*|\n)###\s*(System|Instruction|Input|User|Human|Response|Assistant):")
    ),
    _Style("<human>:", re.compile(r"(?:\A\s*|\n)<(human|bot)>:")),
)
_PREAMBLE = re.compile(
    r"\A\s*(A chat between [^\n]{10,400}?[.:]|Below is an instruction that describes a task[^#]{0,300}?[.:])\s*"
    r"(?=###|(?:USER|User|Human):)"
)
"""How Vicuna's and Alpaca's prompts begin; it is read as a system message."""
_LLAMA2 = re.compile(r"\[INST\]|\[/INST\]")
_ENDS = re.compile(
    r"(?:<\|(?:im_end|eot_id|eot|end|endoftext|end_of_text|END_OF_TURN_TOKEN|return)\|>|<end_of_turn>"
    r"|<｜end▁of▁sentence｜>)\Z"
)
"""The tokens that end a turn, but for `</s>`, which is also the end of HTML's `<s>`."""
_ENDS_INSIDE = re.compile(_ENDS.pattern.removesuffix(r"\Z"))
_LISTED = re.compile(r"\s*(?:array\()?\[\s*\{")
_ROLE = re.compile(rf"""['"](?:role|from)['"]\s*:\s*['"](?:{"|".join(ROLES)})['"]""", re.IGNORECASE)


def turns_in(text: str, column: str) -> tuple[list[Turn], str] | None:
    """(the turns of a conversation that is written in a text, how it is written); None for an ordinary text. The last
    turn may be an empty one of the assistant; a transcript may have no other turn than the user's. Raises Unreadable,
    which names the column."""
    if listed := _listed(text, column):
        return listed, "lists of messages that became text"
    if _LLAMA2.search(text) and (turns := _llama2(text, column)):
        return turns, "chat template [INST]"
    for style in _TEMPLATES:
        if style.turn.search(text):
            return _template(text, style, column), f"chat template {style.shown}"
    found = [(turns, f"transcripts {style.shown}") for style in _TRANSCRIPTS if (turns := _transcript(text, style))]
    # One mark alone at the start says less than two in turn.
    return max(found, key=lambda style: len(style[0]) > 1, default=None)


def is_conversation(value: Any) -> bool:
    """Whether a value is a whole conversation: a list, or a text with turns. One that can't be read is one, too."""
    if not isinstance(value, str):
        return isinstance(value, list)
    try:
        return MARKED_TURN.match(value) is not None or turns_in(value, "") is not None
    except Unreadable:
        return True  # reading it says why


def without_end_tokens(text: str) -> str:
    """An answer without the tokens of chat templates that end a turn, and the white space around them."""
    rest = text.rstrip()
    while match := _ENDS.search(rest, max(0, len(rest) - 40)):
        text = rest = rest[: match.start()].rstrip()
    return text


def _ended(text: str, ends: str) -> str:
    """A text without white space around it and without the `ends` behind it."""
    rest, end = text.strip(), re.compile(rf"(?:{ends})\Z")
    while ends and (match := end.search(rest, max(0, len(rest) - 40))):
        rest = rest[: match.start()].rstrip()
    return rest


def _template(text: str, style: _Style, column: str) -> list[Turn]:
    start = re.compile(rf"\s*(?:(?:{style.start or '(?!)'})\s*)*")
    rest = text[start.match(text).end() :]  # type: ignore[union-attr]
    before, *parts = style.turn.split(rest)
    shown = f"{column}: turns of a chat template ({style.shown})"
    if before.strip():
        if style.shown != "<｜User｜>":
            raise Unreadable(f"{shown} after other text; expected a text, or a list of messages {{role, content}}")
        parts = ["system", before, *parts]  # DeepSeek's templates mark no system message
    turns = []
    for name, words in zip(parts[::2], parts[1::2], strict=True):
        role = _ROLES.get(name.lower())
        if role is None:
            raise Unreadable(f"{shown}: expected those of the system, user and assistant, got {name[:40]!r}")
        content = _ended(words, style.end)
        if _ENDS_INSIDE.search(content):
            raise Unreadable(f"{shown}: expected nothing after the end of a turn")
        turns.append({"role": role, "content": content})
    return turns


def _llama2(text: str, column: str) -> list[Turn]:
    """`<s>[INST] <<SYS>> system <</SYS>> user [/INST] assistant </s>[INST] ...`; empty if neither mark is at a turn."""
    shown = f"{column}: turns of a chat template ([INST])"
    marks = _LLAMA2.findall(text)
    before, *parts = _LLAMA2.split(text)
    if "[/INST]" not in marks or "[INST]" not in marks:
        return []
    if before.replace("<s>", "").strip():
        raise Unreadable(f"{shown} after other text; expected a text, or a list of messages {{role, content}}")
    if any(mark != ("[INST]", "[/INST]")[i % 2] for i, mark in enumerate(marks)) or len(marks) % 2:
        raise Unreadable(f"{shown}: expected [INST] and [/INST] in turn")
    turns = []
    for i, part in enumerate(parts):
        if i == 0 and (system := re.match(r"\s*<<SYS>>(.*?)<</SYS>>", part, re.DOTALL)):
            turns.append({"role": "system", "content": system[1].strip()})
            part = part[system.end() :]
        turns.append({"role": ("user", "assistant")[i % 2], "content": _ended(part, "</?s>")})
    return turns


def _transcript(text: str, style: _Style) -> list[Turn]:
    """The turns of a transcript; empty unless it begins with the user's, or the system's and the user's, and they
    alternate."""
    preamble = _PREAMBLE.match(text)
    before, *parts = style.turn.split(text[preamble.end() :] if preamble else text)
    if before.strip() or not parts:
        return []
    turns = [{"role": "system", "content": preamble[1]}] if preamble else []
    for name, words in zip(parts[::2], parts[1::2], strict=True):
        role, content = _ROLES[name.lower()], _ended(words, style.end)
        if name == "Input" and turns and turns[-1]["role"] == "user":
            turns[-1]["content"] += f"\n\n{content}" if content else ""
        else:
            turns.append({"role": role, "content": content})
    roles = [turn["role"] for turn in turns if turn["role"] != "system"]
    alternate = all(role == ("user", "assistant")[i % 2] for i, role in enumerate(roles))
    return turns if alternate and roles and "system" not in [t["role"] for t in turns[1:]] else []


def _listed(text: str, column: str) -> list[Turn]:
    """The messages of a list that became text; empty for any other text."""
    if not _LISTED.match(text) or text.rstrip()[-1:] not in ("]", ")") or not _ROLE.search(text):
        return []
    problem = f"{column}: a list of messages that became text, and can't be read"
    try:
        value = value_in(text)
    except ValueError as error:
        raise Unreadable(f"{problem}: {error}") from None
    if not isinstance(value, list) or not any(map(is_message, value)):
        return []
    messages: list[Turn] = plain_messages({column: value}, [column])[0][column]
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            raise Unreadable(f"{problem}: expected {{role, content}} in each")
        if message["role"] not in ("system", "user", "assistant"):
            raise Unreadable(f"{column}.{i}: expected the roles system, user and assistant")
    return messages
