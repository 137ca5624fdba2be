"""A board's web page: one self-contained HTML file, `index.html`.

`render` fills the templates in `assets/report` (jinja2, everything escaped) with what `answer`, `tables`, `compared`,
`charts`, `sweep_charts` and `examples` make of the board; `dots` and `plane` are the two kinds of chart, `scale` places
values on their axes, `looks` gives each row its colour, `words` writes numbers, `data` packs the answers for the
page's script.
"""

from harness.report.page.render import page, write_page

__all__ = ["page", "write_page"]
