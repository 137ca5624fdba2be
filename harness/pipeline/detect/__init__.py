"""Power before money: which sizes of a run show a difference between methods, and what they cost.

`subject` reads from a recipe what its board will compare, `designs` what can be set in it and what that costs, `search`
finds the designs that show a difference, and `view` draws them. `lines` tells what a recipe shows as it is, and how
often its gates pass an equal row.
"""
