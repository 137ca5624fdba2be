"""Gate results for CI: JUnit XML for its test view, Markdown for its job summary."""

from collections.abc import Sequence
from xml.etree import ElementTree

from harness.gate.check import INCONCLUSIVE, REFUSED, VERDICTS, WORSE, Result
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
    """A table for a job summary: one line per check, with the bounds and what this n could have settled."""
    lines = [
        "| row | against | metric | margin | difference | bounds | n | detectable | outcome |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for r in results:
        test = r.test
        cells = [
            r.row,
            r.baseline or "–",
            r.check.metric,
            f"{r.check.margin:g}" if r.baseline and r.check.margin is not None else "–",
        ]
        cells += (
            [
                f"{test.difference:+.2f}",
                f"{test.lower:+.2f} to {test.upper:+.2f}",
                f"{test.n:,}",
                f"{test.detectable:.2f}",
            ]
            if test
            else ["–"] * 4
        )
        lines.append("| " + " | ".join(escape_markdown(cell) for cell in (*cells, VERDICTS[r.code])) + " |")
    reasons = [f"- **{VERDICTS[r.code]}**: {escape_markdown(r.reason)}" for r in results]
    note = (
        "Bounds are one-sided, paired by prompt. Detectable: how far from the margin a true difference must lie for "
        "this n to settle it in 80 % of cases."
    )
    return "\n".join(["## Regression gate", "", *lines, "", *reasons, "", note]) + "\n"
