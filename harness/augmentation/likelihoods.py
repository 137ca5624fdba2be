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
    """The scores of questions, by the key of what was asked. `cut`: how many had a context that was cut."""

    by_key: Mapping[str, Scores]
    cut: int

    def answer(self, question: Question) -> Answer:
        """The answer to one of them."""
        scores = self.by_key[_key(question)]
        return Answer(question_id=question.id, turns=(), finish_reasons=(), tokens=0, likelihoods=scores.likelihoods)


def likelihoods(ctx: Context, model: RowModel, questions: Sequence[Question], beside: Path) -> Scored:
    """Score all continuations of these questions by the row's model, in this process: an engine is not asked, since
    servers differ in which log-probabilities they give. `beside`: the journal of the model's texts, next to which
    theirs is."""
    journal = Journal(beside.with_name(beside.name.replace("answers-", "likelihoods-", 1)), Scores, column="scores")
    wanted = {_key(question): question for question in questions}
    known = journal.rows() if questions else {}
    missing = [question for key, question in wanted.items() if key not in known]
    ctx.progress.advance(sum(len(q.scored) for q in questions) - sum(len(q.scored) for q in missing))
    if missing:
        _score(ctx, model, missing, journal)
        known = journal.rows()
    scores = {key: known[key] for key in wanted}
    return Scored(scores, sum(one.cut for one in scores.values()))


def _score(ctx: Context, model: RowModel, questions: Sequence[Question], journal: Journal[Scores]) -> None:
    """Score these questions, each forward pass's into the journal once all of their continuations are there."""
    from harness.logprobs.continuations import score_continuations

    rows = [(number, pair) for number, question in enumerate(questions) for pair in question.scored]
    found: dict[int, dict[int, tuple[float, bool]]] = {number: {} for number in range(len(questions))}
    cuts: set[int] = set()
    first = {number: i for i, (number, _) in reversed(list(enumerate(rows)))}

    def arrived(scored: Sequence[tuple[int, float, bool, bool]]) -> None:
        complete = {}
        for i, logp, greedy, cut in scored:
            number = rows[i][0]
            found[number][i - first[number]] = (logp, greedy)
            cuts.update({number} if cut else ())
            if len(found[number]) == len(questions[number].scored):
                complete[number] = found[number]
        journal.append(
            (_key(questions[n]), Scores(likelihoods=tuple(by[k] for k in sorted(by)), cut=n in cuts))
            for n, by in complete.items()
        )
        ctx.progress.advance(len(scored))

    tokenizer = policy_tokenizer(model.policy)
    score_continuations(model.load(ctx), tokenizer, [pair for _, pair in rows], arrived)


def _key(question: Question) -> str:
    pairs = [
        [context if isinstance(context, str) else [m.model_dump() for m in context], text]
        for context, text in question.scored
    ]
    return content_key(pairs)
