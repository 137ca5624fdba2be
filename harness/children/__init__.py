"""The one room that starts other programs: git, pip, accelerate launch.

`start` starts a program with a clean environment: the working folder is not on Python's path, and no secrets are passed
that it doesn't need. `watch` runs beside it, and ends it with all that it has started once this process is gone.

    process = start([sys.executable, "-m", "accelerate.commands.launch", ...], errors=log)
"""
