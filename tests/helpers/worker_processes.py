"""Processes that train together on this machine, as the workers of a cluster would."""

import json
import os
import socket
import subprocess
import sys

from tests.helpers.commands import REPOSITORY


def start_process(*arguments: str, **environment: str) -> subprocess.Popen:
    """Starts `python ...` in the repository; stdout and stderr are captured together."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_workers(*arguments_of_each: list[str]) -> list[subprocess.Popen]:
    """Starts one process per argument list; they find each other through TF_CONFIG."""
    cluster = {"worker": _free_addresses(len(arguments_of_each))}
    tasks = ({"type": "worker", "index": index} for index in range(len(arguments_of_each)))
    return [
        start_process(*arguments, TF_CONFIG=json.dumps({"cluster": cluster, "task": task}))
        for arguments, task in zip(arguments_of_each, tasks, strict=True)
    ]


def finish(processes: list[subprocess.Popen], timeout: float = 300) -> list[str]:
    """Waits for all processes; returns what they printed."""
    return [process.communicate(timeout=timeout)[0] for process in processes]


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses
