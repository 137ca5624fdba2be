"""Runs stages as tasks on a Ray cluster: `connect` connects to or starts one, `execute` is the driver, `work` the
task of a stage, `shards` the workers among which it may spread its rows, `process` what all of them have in common.

The store must be on a file system shared by all nodes. Only this package depends on Ray.

    from harness.engine.cluster.execute import execute_on_ray
"""
