"""Rendering of chat templates, within limits of time and memory: a template is a program that comes with the model.

The same conversation is rendered the same in training, sampling and scoring, and every day: a template that asks for
the date gets `DATE`, and one that draws random numbers always draws the same. A system message that a template refuses
or leaves out is put in front of the user's next turn (`harness.models.templates.taking`).

Jinja's sandbox bounds neither nested loops nor the size of texts. So the operating system does: while a template is
compiled and rendered, the process may take `SECONDS` of processor time and `MEMORY` more bytes of addresses. (The time
limit works in the main thread only, the memory limit on Linux only.)
"""

import contextlib
import random
import re
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from harness.errors import ModelError
from harness.models.templates.taking import Takes, as_rows, folded, probed
from harness.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{% for message in messages %}### {{ message['role'] | capitalize }}:\n{{ message['content'] }}"
    "{% if not (loop.last and message['role'] == 'assistant') %}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)
"""The template of tokenizers that have none (those of base models)."""

SECONDS = 10.0
"""Processor time of one rendering. Real templates take about 20 microseconds a message."""
MEMORY = 1 << 30
"""Bytes that one rendering may take."""
LARGEST_TEMPLATE = 1 << 20
"""Characters of a template. The longest ones of known models have about 20,000."""
LARGEST_FRAME = 1 << 20
"""Characters that a template may write besides the messages, which it may write up to four times."""

DATE = datetime(2024, 7, 26)
"""The day that every template is told. It is the one that Llama 3.1 and 3.2 write where no clock is at hand."""
_DRAWS = re.compile(r"\|\s*random\b|\blipsum\b")
"""What draws random numbers in Jinja."""

_rendering = threading.RLock()
"""Held while limits are in force: they belong to the process, not to a thread."""
_taken: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, Takes]]" = WeakKeyDictionary()


class _OutOfTime(BaseException):
    """Not an Exception, which Jinja would take for a failure of one expression, and go on."""


def render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], **options: Any) -> str:
    """The conversation in the tokenizer's chat template, or in `PLAIN_TEMPLATE`. `options`: those of
    `apply_chat_template`. Raises ModelError if the template refuses the conversation or exceeds a limit."""
    takes = taken(tokenizer)
    if takes.system != "written":
        messages = folded(messages)
    return _render(tokenizer, messages, parts=takes.parts, **options)


def taken(tokenizer: "PreTrainedTokenizerBase") -> Takes:
    """What the tokenizer's chat template takes."""
    template = str(tokenizer.chat_template)
    cached = _taken.get(tokenizer)
    if cached is None or cached[0] != template:
        takes = probed(lambda messages, parts: _render(tokenizer, messages, parts=parts))
        cached = _taken[tokenizer] = (template, takes if tokenizer.chat_template else Takes())
    return cached[1]


def fixed(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """What the template would write differently another day or another time, by what is told to it instead."""
    template = str(tokenizer.chat_template)
    date = {"date": f"{DATE:%Y-%m-%d}"} if "strftime_now" in template else {}
    return date | ({"draws": "seed 0"} if _DRAWS.search(template) else {})


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, parts: bool, **options: Any) -> str:
    """The messages as they are. `parts`: their contents as lists of parts."""
    template, name = tokenizer.chat_template or PLAIN_TEMPLATE, tokenizer.name_or_path
    if len(str(template)) > LARGEST_TEMPLATE:
        raise ModelError(f"{name}: its chat template has more than {LARGEST_TEMPLATE:,} characters; use another model")
    own = None if tokenizer.chat_template else PLAIN_TEMPLATE
    rows = as_rows(messages, parts)
    try:
        with _limits(), _same_every_time(tokenizer):
            text = str(tokenizer.apply_chat_template(rows, chat_template=own, tokenize=False, **options))
    except _OutOfTime:
        raise ModelError(
            f"{name}: its chat template takes more than {SECONDS:g} s for {len(rows)} messages; use another model"
        ) from None
    except MemoryError:
        raise ModelError(
            f"{name}: its chat template takes more than {MEMORY >> 20:,} MB for {len(rows)} messages; use another model"
        ) from None
    except Exception as error:  # it may raise anything
        roles = ", ".join(m.role for m in messages)
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{name}: its chat template rejects the roles [{roles}]: {reason}; use another model, or other data"
        ) from error
    if len(text) > LARGEST_FRAME + 4 * sum(len(m.content) for m in messages):
        raise ModelError(
            f"{name}: its chat template writes {len(text):,} characters for {len(rows)} messages; use another model"
        )
    return text


@contextlib.contextmanager
def _same_every_time(tokenizer: "PreTrainedTokenizerBase") -> Iterator[None]:
    """Tells the template `DATE`, and starts the random numbers that it draws anew. Held under the lock."""
    needs = fixed(tokenizer)
    if "date" in needs:
        # transformers gives templates a clock, and makes a text of any other function that they are handed.
        from transformers.utils.chat_template_utils import _compile_jinja_template

        compiled = _compile_jinja_template(tokenizer.get_chat_template())
        compiled.environment.globals["strftime_now"] = DATE.strftime
    if "draws" not in needs:
        yield
        return
    before = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    with _rendering, _memory_limit(), _time_limit():  # the time can't run out while the other limit is lifted
        yield


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raises _OutOfTime in the main thread after SECONDS of the process's own time, so that a suspended process loses
    none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    active = True

    def stop(number: int, frame: FrameType | None) -> None:
        if active:
            raise _OutOfTime

    before = signal.signal(signal.SIGVTALRM, stop)
    timer = signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, 1.0)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_VIRTUAL, *timer)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Lets the process's address space grow by MEMORY at most; Python then raises MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + MEMORY
    known = limit > MEMORY and (soft == resource.RLIM_INFINITY or limit < soft)
    if known:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        if known:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Bytes of the process's address space; 0 where the system doesn't say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0
