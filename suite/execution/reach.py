"""Whether all nodes of a cluster reach the results: asked before anything is trained, rather than found out after."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from suite.errors import UsageError
from suite.results.folder import Folder

ANSWER_S = 120.0  # for a node to unpack the code, start a process and answer
APPEAR_S = 5.0  # for what one machine wrote to be seen on another


def require_reach(folder: Folder) -> None:
    """Refuse results that a node of the connected Ray cannot read or write.

    Each node on which a run may land reads a file that this process writes, and writes one that this process reads.

    Args:
        folder: The results.

    Raises:
        UsageError: If a node does not reach them.
    """
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
    if set(nodes) == {ray.get_runtime_context().get_node_id()}:
        return
    probe = f"probe-{uuid.uuid4().hex}"
    folder.write(probe, probe.encode())
    try:
        problems = _ask(folder, probe, nodes)
    finally:
        for name in (probe, *(_answer_name(probe, node_id) for node_id in nodes)):
            folder.remove(name)
    if problems:
        named = "; ".join(f"{_describe(nodes[node_id])}: {problem}" for node_id, problem in problems.items())
        raise UsageError(
            f"{folder.uri!r} is not reached by every node of the Ray ({named}); --results must name a directory that "
            "all nodes share, or an object store, as in s3://bucket/results or gs://bucket/results"
        )


def _ask(folder: Folder, probe: str, nodes: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong, by node."""
    answers = {
        node_id: ray
        .remote(num_cpus=0, max_retries=0)(_answer)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False))
        .remote(folder.uri, probe, node_id)
        for node_id in nodes
    }
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_S)
    problems = {node_id: _problem(folder, probe, node_id, answer) for node_id, answer in answers.items()}
    return {node_id: problem for node_id, problem in problems.items() if problem}


def _problem(folder: Folder, probe: str, node_id: str, answer: "ray.ObjectRef[str]") -> str:
    """Return what is wrong with a node; nothing if it reaches the folder."""
    try:
        problem: str = ray.get(answer, timeout=0)
    except TimeoutError:
        ray.cancel(answer, force=True)
        return f"did not answer in {ANSWER_S:.0f} s"
    except RayError as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[-1]
    if not problem and not _appears(folder, _answer_name(probe, node_id)):
        return "what it writes is not seen here"
    return problem


def _answer(uri: str, probe: str, node_id: str) -> str:
    """Answer on a node: nothing if it has read and written, else what is wrong."""
    try:
        folder = Folder(uri)
        if not _appears(folder, probe):  # not written either: that would make the directory on a disk of the node's own
            return "does not see it"
        folder.write(_answer_name(probe, node_id), folder.read(probe))
    except UsageError as error:
        return str(error)
    return ""


def _appears(folder: Folder, name: str) -> bool:
    deadline = time.monotonic() + APPEAR_S
    while not folder.has(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _answer_name(probe: str, node_id: str) -> str:
    return f"{probe}-{node_id}"


def _describe(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
