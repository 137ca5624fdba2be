"""The reference of a recipe's fields, made from the models themselves.

`texts` finds what each field is in the docstrings, `fields` lists a section's fields with types and bounds, and
`schema` makes a JSON Schema for editors.
"""
