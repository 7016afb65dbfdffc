"""Results: the schema, the store, and the frames that people query."""

from suite.results.results import Results
from suite.results.schema import INPUT_BOUND, SCHEMA_VERSION, STATUSES, TABLES
from suite.results.store import Store, load

__all__ = ["INPUT_BOUND", "SCHEMA_VERSION", "STATUSES", "TABLES", "Results", "Store", "load"]
