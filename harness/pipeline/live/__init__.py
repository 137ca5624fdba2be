"""What others see of a run while it runs: `trackers` its trainings as runs of experiment trackers, `time_left` how long
it still takes.

    from harness.pipeline.live.time_left import RunTime
"""
