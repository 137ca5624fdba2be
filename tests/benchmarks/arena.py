"""A third benchmark as somebody would add it: all of it in this one file, which a test installs by an entry point.

Like Arena-Hard (arXiv 2406.11939): pairs against a baseline's answers, judged in both orders, scored in percent.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from harness.benchmark import Benchmark
from harness.figures import Figure, Pairing
from harness.types import Answer, Ask, Candidates, JudgeRequest, Message, Metric, Question, Verdict

QUESTIONS = {
    "code": ("Reverse a list in Python.", "What does a mutex do?", "Why is 0.1 + 0.2 not 0.3?"),
    "maths": ("Is 91 a prime?", "What is the derivative of x^3?", "How many edges has a cube?"),
    "letters": ("Decline an invitation.", "Thank a neighbour.", "Ask for a day off."),
}
BETTER = ("A", "B")


class ArenaHard(Benchmark):
    """Which of two answers is better, the row's or the baseline's, in both orders. Figures in percent; `brevity` is the
    mean length of the answers in words, fewer being better."""

    title: ClassVar[str] = "Arena-Hard"
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure(
            metric="arena_hard.score",
            group="Arena-Hard",
            title="score",
            short="score %",
            unit="%",
            margin=3.0,
            pairing=Pairing(scale=100),
            compared=True,
            rated=True,
            limits=(0, 100),
        ),
        Figure(
            metric="arena_hard.words",
            group="Arena-Hard",
            title="words an answer",
            decimals=1,
            unit="words",
            higher_is_better=False,
            margin=5.0,
        ),
        *(
            Figure(metric=f"arena_hard.{name}", group="Arena-Hard", title=name, unit="%", place="category")
            for name in QUESTIONS
        ),
    )

    name: Literal["arena_hard"] = "arena_hard"
    baseline: str = "base"
    limit: int | None = None

    @property
    def needs_row(self) -> str:
        return self.baseline

    @property
    def compares(self) -> bool:
        return True

    def load_questions(self) -> list[Question]:
        asked = [(category, text) for category, texts in QUESTIONS.items() for text in texts]
        return [Question(id=f"q{i}", turns=(text,), category=c) for i, (c, text) in enumerate(asked)][: self.limit]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        ours, theirs = ({a.question_id: a.turns[0] for a in part} for part in (answers, reference))
        asked = [(q, switched) for q in self.load_questions() for switched in (False, True)]
        requests = [_request(q, theirs[q.id], ours[q.id], switched) for q, switched in asked]
        replies = ask.readable(requests, lambda reply: None if reply.text.strip() in BETTER else "neither A nor B")
        verdicts = []
        for i, (question, _) in enumerate(asked[::2]):
            pair = replies[2 * i : 2 * i + 2]
            won = [r.text.strip() == ("A" if k else "B") for k, r in enumerate(pair)]
            failed = next((r.error for r in pair if r.error), None)
            value = None if failed else sum(won) / 2
            verdicts.append(
                Verdict(
                    question_id=question.id,
                    category=question.category,
                    value=value,
                    invalid=failed,
                    reply=" / ".join(r.text for r in pair),
                )
            )
        return verdicts

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        words = [len(a.turns[0].split()) for a in answers]
        figures = super().metrics(answers, reference, verdicts)
        figures["arena_hard.words"] = Metric(value=sum(words) / len(words), n=len(words))
        for category in dict.fromkeys(v.category for v in verdicts):
            scored = [100 * v.value for v in verdicts if v.category == category and v.value is not None]
            figures[f"arena_hard.{category}"] = Metric(value=sum(scored) / len(scored), n=len(scored))
        return figures


def _request(question: Question, baseline: str, answer: str, switched: bool) -> JudgeRequest:
    """The baseline's answer is shown first, unless the pair is switched."""
    shown = (answer, baseline) if switched else (baseline, answer)
    text = f"Question: {question.turns[0]}\n\nA: {shown[0]}\n\nB: {shown[1]}\n\nWhich is better, A or B?"
    prompt = (Message(role="user", content=question.turns[0]),)
    return JudgeRequest(
        messages=(Message(role="user", content=text),),
        max_tokens=1,
        choices=BETTER,
        candidates=Candidates(messages=prompt, answers=shown),
    )
