"""The registered workloads as a page prints them."""

from suite.workloads import REGISTRY


def markdown() -> str:
    """Return the table of all workloads, as ``docs/workloads.md`` has it.

    Returns:
        A row a workload: its name, what it is, its batch, its target and which runs set that.
    """
    rows = []
    for name, spec in REGISTRY.items():
        sign = "≥" if spec.metric_goal == "maximize" else "≤"
        target = f"{spec.metric_name} {sign} {spec.target:g}"
        rows.append(f"| `{name}` | {spec.reference} | {spec.batch_size} | {target} | {spec.target_set_by} |")
    return "\n".join(["| name | what it is | batch | target | set by |", "|---|---|---|---|---|", *rows])
