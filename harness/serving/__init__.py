"""Servers that the harness runs: an engine of a recipe is started when a stage needs it, and stopped after it.

`engine` describes one, `commands` has how each kind is started, `replica` runs one process of it, `pool` all of them.
"""
