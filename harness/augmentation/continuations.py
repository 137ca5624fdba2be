"""Answers to questions that ask for log-likelihoods rather than for texts, kept in a journal as they are computed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.engine.journal import Journal, content_key
from harness.engine.stage import Context
from harness.recipe.policy import policy_tokenizer
from harness.training.checkpoint import RowModel
from harness.types import Answer, Question, Record


class Scores(Record):
    """(log-likelihood, whether greedy decoding would write it) of each of a question's continuations. `cut`: a context
    has lost its beginning, to fit in the model's window."""

    likelihoods: tuple[tuple[float, bool], ...]
    cut: bool = False


class Scored(NamedTuple):
    """The scores of questions, by the key of what was asked."""

    by_key: Mapping[str, Scores]

    def answer(self, question: Question) -> Answer:
        """The answer to one of them."""
        scores = self.of(question)
        return Answer(question_id=question.id, turns=(), finish_reasons=(), tokens=0, likelihoods=scores.likelihoods)

    def of(self, question: Question) -> Scores:
        """The scores of one of them."""
        return self.by_key[_key(question)]

    def has(self, question: Question) -> bool:
        """Whether a question's are there."""
        return _key(question) in self.by_key


def stored_scores(questions: Sequence[Question], beside: Path) -> Scored:
    """The scores that are stored of these questions. `beside`: as in `score_questions`."""
    known = _journal(beside).rows() if questions else {}
    return Scored({key: known[key] for key in map(_key, questions) if key in known})


def score_questions(ctx: Context, model: RowModel, questions: Sequence[Question], beside: Path) -> None:
    """Score and store all continuations of these questions by the row's model, in this process: an engine is not asked,
    since servers differ in which log-probabilities they give. `beside`: the journal of the model's texts, next to which
    theirs is."""
    if not questions:
        return
    journal = _journal(beside)
    known = journal.rows()
    missing = {key: question for question in questions if (key := _key(question)) not in known}
    ctx.progress.advance(sum(len(q.scored) for q in questions) - sum(len(q.scored) for q in missing.values()))
    if missing:
        _score(ctx, model, list(missing.values()), journal)


def _journal(beside: Path) -> Journal[Scores]:
    path = beside.with_name(beside.name.replace("answers-", "continuations-", 1))
    return Journal(path, Scores, column="scores")


def _score(ctx: Context, model: RowModel, questions: Sequence[Question], journal: Journal[Scores]) -> None:
    """Score these questions; each goes into the journal once all of its continuations are there."""
    from harness.logprobs.continuations import score_continuations

    rows = [(number, place) for number, question in enumerate(questions) for place in range(len(question.scored))]
    found: list[dict[int, tuple[float, bool]]] = [{} for _ in questions]
    cuts: set[int] = set()

    def arrived(scored: Sequence[tuple[int, float, bool, bool]]) -> None:
        complete = []
        for row, logp, greedy, cut in scored:
            number, place = rows[row]
            found[number][place] = (logp, greedy)
            cuts.update({number} if cut else ())
            if len(found[number]) == len(questions[number].scored):
                complete.append(number)
        journal.append(
            (_key(questions[n]), Scores(likelihoods=tuple(found[n][k] for k in sorted(found[n])), cut=n in cuts))
            for n in complete
        )
        ctx.progress.advance(len(scored))

    tokenizer = policy_tokenizer(model.policy)
    score_continuations(model.load(ctx), tokenizer, [questions[n].scored[place] for n, place in rows], arrived)


def _key(question: Question) -> str:
    pairs = [
        [context if isinstance(context, str) else [m.model_dump() for m in context], text]
        for context, text in question.scored
    ]
    return content_key(pairs)
