"""Runs stages as tasks on a Ray cluster: `connect` connects to or starts one, `execute` is the driver, `work` the
worker.

The store must be on a file system shared by all nodes. Only this package depends on Ray.

    from harness.engine.cluster.execute import execute_on_ray
"""
