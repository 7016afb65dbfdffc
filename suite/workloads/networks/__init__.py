"""The networks of the workloads: functions that return freshly initialized modules, a file for each kind."""
