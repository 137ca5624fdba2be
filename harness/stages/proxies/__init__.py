"""Stages that hold a reward model, the proxy, against the known truth: on the data's samples, and on rows' answers."""
