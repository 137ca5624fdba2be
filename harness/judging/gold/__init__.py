"""Verdicts of people on a board's answers or a file's pairs: the page that asks for them, and what is read back.

`pairs` finds what a board's rows can be compared by, `draw` draws a random part of the prompts and hides whose answers
are where, `page` writes the page, `labels` reads the files that it saves, `board` puts the corrected figures on the
board. `preferences` does for a file of pairs what `pairs` and `board` do for a board.
"""
