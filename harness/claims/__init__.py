"""What a board says about methods: comparisons over seeds and prompts, the primary ones, and the answer.

`cells` finds rows that differ in one setting only, `effects` compares them, `primary` says which comparisons a run is
for, `answer` puts them into words.
"""
