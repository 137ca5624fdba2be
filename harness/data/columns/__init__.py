"""What people's own files look like: tables as text, the columns of other trainers, and the messages in their cells.

`delimited` reads CSV and TSV, `layouts` renames the columns of a row to the usual ones, `contents` brings messages into
the form {role, content}, and `survey` counts what a file holds, for `harness init`.
"""
