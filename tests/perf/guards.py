"""How long the guards take for a row whose answers are long: `python -m tests.perf.guards`.

Rows of 8 answers each, of 8,000, 32,000 and 128,000 characters an answer: prose, and texts that are the worst for one
part of the guards each (openings of what they look for, digits, single letters, near-equal answers, brackets). Seconds
a row, of the processor. Four times the length must take about four times as long. The last line is one JSON object:
`seconds`, for the longest answers by kind of text, and `growth`, the largest factor from one length to the next.
`--small`: 2,000 and 8,000 characters.
"""

import random
import time
from itertools import pairwise

from harness.pipeline.guards import answer_flags
from harness.types import Answer
from tests.perf._shared import options, report

FULL, SMALL = (8_000, 32_000, 128_000), (2_000, 8_000)
ANSWERS = 8
STEP = 4
"""The factor from one length to the next."""
UNITS = {
    "openings": "this answer ignore all the your if you rate this model a is ",
    "digits": "7",
    "letters": "a b-c ",
    "brackets": "[[ <!-- (((( ",
    "base64": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo= ",
    "other letters": "这个回答 этот ответ この回答 ",
}
_WORDS = ("the", "plant", "needs", "light", "water", "and", "a", "pot", "but", "never", "too", "much", "sun.", "In")


def texts(kind: str, length: int) -> list[str]:
    """A row's answers."""
    if kind == "prose":
        draw = random.Random(length)
        return [" ".join(draw.choices(_WORDS, k=length // 4))[:length] for _ in range(ANSWERS)]
    unit = UNITS[kind]
    return [(f"{i} " + unit * (length // len(unit) + 1))[:length] for i in range(ANSWERS)]


def seconds(kind: str, length: int) -> float:
    """Processor seconds of a row's guards."""
    answers = [
        Answer(question_id=str(i), turns=(text,), finish_reasons=(), tokens=None)
        for i, text in enumerate(texts(kind, length))
    ]
    references = {answer.question_id: "A reference." for answer in answers}
    started = time.process_time()
    answer_flags(answers, references)
    return time.process_time() - started


def main() -> None:
    lengths = SMALL if options(__doc__).parse_args().small else FULL
    seconds("prose", lengths[0])  # loads what is loaded once
    last, growth = {}, 0.0
    for kind in ("prose", *UNITS):
        times = [min(seconds(kind, length) for _ in range(3)) for length in lengths]
        growth = max(growth, *(after / before for before, after in pairwise(times)))
        last[kind] = round(times[-1], 3)
        print(f"{kind}: {', '.join(f'{s:.3f} s for {n:,}' for n, s in zip(lengths, times, strict=True))}", flush=True)
    if len(lengths) == len(FULL) and growth > 2 * STEP:
        raise SystemExit(f"answers of {STEP} times the length take {growth:.1f} times as long; expected about {STEP}")
    report({"seconds": last, "growth": round(growth, 2)})


if __name__ == "__main__":
    main()
