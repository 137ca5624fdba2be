"""Answers to a benchmark's questions: `conversations` go on turn by turn, as far as a journal has them, and further."""
