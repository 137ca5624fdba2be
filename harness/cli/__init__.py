"""The `harness` command, a file per group of commands. Only this package ends the process.

`app` has the entry point, which turns an error into one line and exit code 2; `console` what several commands share.
Commands import what they need when they run, so that `harness --help` is instant.

    from harness.cli.app import app, main
"""
