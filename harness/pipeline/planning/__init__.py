"""The parts of a plan: a row, the stages of the data, the trainings, and the evaluation."""
