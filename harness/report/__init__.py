"""A board drawn: Markdown, CSV, terminal table, and one self-contained HTML page.

`write` writes all files of a board, `markdown`, `terminal` and `notebook` draw its tables, `answers` its answer,
`csv_files` its CSV, `comparisons` its matrices, `sweep` the sections on what was varied, `notes` the notes; `page` is
the web page; `merge` joins boards, `changes` is what differs between two.

    from harness.report.page import write_page

    write_page(Path("leaderboards/quickstart"))   # index.html
"""
