"""What boards hold of the reports of stages, and what readers use of it."""
