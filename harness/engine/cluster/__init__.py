"""Stages as tasks on a Ray cluster: `connect` finds or starts one, `execute` drives it, `work` is what a node does.

The store must be on a file system that all nodes share. Nothing else of the project knows of Ray.

    from harness.engine.cluster.execute import execute_on_ray
"""
