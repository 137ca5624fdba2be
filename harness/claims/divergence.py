"""What a board says of how far its policies have moved from where their trainings started."""

from collections.abc import Iterable

from harness.boards.entry import BoardRow

ALONG = (
    "KL is measured along the answers as they were written. Not all of them were sampled at temperature 1 from the "
    "whole vocabulary, so it is no estimate of the divergence of whole answers."
)
ESTIMATE = "The answers were sampled at temperature 1: KL estimates the divergence of whole answers without bias."


def divergence_notes(entries: Iterable[BoardRow]) -> list[str]:
    """What the rows' divergence is of, for each way in which answers were sampled, and how many answers are, tokenised
    again, other tokens than were sampled."""
    measured = [(entry.id, facts) for entry in entries if (facts := entry.provenance.kl) is not None]
    ways = sorted({facts.is_estimate for _, facts in measured})
    notes = []
    for is_estimate in ways:
        rows = [row for row, facts in measured if facts.is_estimate == is_estimate]
        whose = f"{', '.join(rows)}: " if len(ways) > 1 else ""
        notes.append(whose + (ESTIMATE if is_estimate else ALONG))
    if again := sum(facts.retokenised for _, facts in measured):
        answers = sum(facts.answers or 0 for _, facts in measured)
        notes.append(
            f"KL: {again:,} of {answers:,} answers are, tokenised again, other tokens than were sampled, and their "
            "divergence is that at the other ones."
        )
    return notes
