"""Gate results for CI: JUnit XML for its test view, Markdown for its job summary."""

from collections.abc import Sequence
from xml.etree import ElementTree

from harness.boards.format import number, signed
from harness.gate.check import INCONCLUSIVE, REFUSED, VERDICTS, WORSE, Result
from harness.gate.words import decimals_of, minus, natural
from harness.report.markup import escape_markdown

_ILLEGAL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 65534, 65535), "�")
"""Characters that XML 1.0 can't hold."""


def junit_xml(results: Sequence[Result]) -> str:
    """One test case per check: `failure` for a row that is worse or inconclusive, `error` for one that can't be
    compared."""
    suite = ElementTree.Element(
        "testsuite",
        name="harness gate",
        tests=str(len(results)),
        failures=str(sum(r.code in (WORSE, INCONCLUSIVE) for r in results)),
        errors=str(sum(r.code == REFUSED for r in results)),
    )
    for result in results:
        against = f" against {result.baseline}" if result.baseline else ""
        name = f"{result.check.metric}{against}".translate(_ILLEGAL)
        case = ElementTree.SubElement(suite, "testcase", classname=result.row.translate(_ILLEGAL), name=name)
        reason = result.reason.translate(_ILLEGAL)
        if result.code:
            kind = "error" if result.code == REFUSED else "failure"
            problem = ElementTree.SubElement(case, kind, type=VERDICTS[result.code], message=reason)
            problem.text = reason
        else:
            ElementTree.SubElement(case, "system-out").text = reason
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def summary_markdown(results: Sequence[Result]) -> str:
    """For a job summary: the answers' sentences, then a table of all checks with what this n could have settled."""
    lines = [
        "| row | against | metric | margin | difference | 95 % CI | n | settles | outcome |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for r in results:
        cells = [r.row, r.baseline or "–", r.check.metric, *_figures(r)]
        lines.append("| " + " | ".join(escape_markdown(cell) for cell in (*cells, VERDICTS[r.code])) + " |")
    reasons = [f"- **{VERDICTS[r.code]}**: {escape_markdown(r.reason)}" for r in results]
    note = (
        "Differences are paired by prompt; one-sided bounds decide. Settles: the smallest margin that this n settles "
        "with 80 % power, if in truth the two rows are equal."
    )
    return "\n".join(["## Regression gate", "", *reasons, "", *lines, "", note]) + "\n"


def _figures(result: Result) -> list[str]:
    """Margin, difference, interval, prompts and what they settle."""
    tested, figure, test = result.tested, result.figure, result.test
    if tested is None or figure is None or test is None:
        return ["–"] * 5
    decimals = decimals_of(figure, tested.margin)
    difference, low, high = natural(tested, figure)
    cells = [minus(f"{tested.margin:.3g}"), signed(difference, decimals)]
    cells += [f"{number(low, decimals)} to {number(high, decimals)}", f"{test.n:,}", number(test.settles, decimals)]
    return cells
