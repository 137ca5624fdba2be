"""A Ray cluster of two nodes on this machine, in a process of its own: `python -m tests.cluster` prints its address,
and kills the second node when it reads `kill`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


class TwoNodes:
    """A running cluster."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()
        assert self.address, "the cluster did not start"

    def _say(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(word, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def kill_second_node(self) -> None:
        """Without warning: its raylet and its workers are gone."""
        assert self._say("kill") == "killed"

    def end(self) -> None:
        if self._process.poll() is None:
            self._say("end")
            self._process.wait(60)


@contextmanager
def two_nodes(home: Path) -> Iterator[TwoNodes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        running = TwoNodes(process)
        yield running
        running.end()
    finally:
        process.kill()
        process.wait()


def main() -> None:
    import psutil
    from ray.cluster_utils import Cluster

    said = sys.stdout
    sys.stdout = sys.stderr  # Ray prints to it
    node = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": 100_000_000,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(**{k: v for k, v in node.items() if k != "include_dashboard"})
    cluster.wait_for_nodes()
    print(cluster.address, file=said, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            for found in second.all_processes.get("raylet", []):
                raylet = psutil.Process(found.process.pid)
                for process in [*raylet.children(recursive=True), raylet]:
                    os.kill(process.pid, signal.SIGKILL)
            print("killed", file=said, flush=True)
        else:
            cluster.shutdown()
            print("ended", file=said, flush=True)
            return


if __name__ == "__main__":
    main()
