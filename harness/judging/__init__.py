"""How judges are asked (journal first, then the judge), with costs, panels and calibration.

`asker` asks one judge and journals every reply, `panel` averages several judges, `costs` plans and sums dollars,
`calibration` measures a judge against recorded official verdicts, `archive` moves replies between machines. See the
README in this folder.

    from harness.judging.asker import make_ask

    ask = make_ask(judge, journal, concurrency=8, advance=progress.advance)
    benchmark.verdicts(answers, reference, ask)
"""
