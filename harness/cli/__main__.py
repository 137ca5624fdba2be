"""`python -m harness.cli`."""

from harness.cli.start import main

main()
