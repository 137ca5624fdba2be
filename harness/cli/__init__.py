"""The `harness` command, a file per group of commands. Only this package ends the process.

`start` is the entry point, `endings` turns an error into one line and exit code 2, `app` joins the commands, `console`
has what several of them share. Commands import what they need when they run, so that `harness --help` is instant.

    from harness.cli.app import app
    from harness.cli.start import main
"""
