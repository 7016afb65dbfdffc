"""Where runs are executed: the only place that imports ray or optuna.

Ray reads these variables when it is imported, so they are set here, before any module of this package can import it.
What the user has set wins.
"""

import os

_DEFAULTS = {
    "RAY_AUTH_MODE": "token",  # said explicitly: on, and without a warning
    "RAY_worker_niceness": "0",  # the default of 15 lets any other process distort the timings
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # the default of 2 s delays the start and the end of a worker group
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: Tune prints nothing, we print our own progress
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store is the log
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends the command, not just this sweep
    "OMP_NUM_THREADS": "1",  # each run sets its own number of threads
}
_LOCAL_DEFAULTS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: every port binds to loopback
}

for _name, _value in {**_DEFAULTS, **({} if os.environ.get("RAY_ADDRESS") else _LOCAL_DEFAULTS)}.items():
    os.environ.setdefault(_name, _value)
