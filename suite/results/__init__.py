"""Results: the schema, the store, and the frames that people query."""

from suite.results.schema import SCHEMA_VERSION, STATUSES, TABLES
from suite.results.store import Results, Store, load

__all__ = ["SCHEMA_VERSION", "STATUSES", "TABLES", "Results", "Store", "load"]
