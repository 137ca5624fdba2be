"""Training: rows and collation, log-probabilities, the trainer."""
