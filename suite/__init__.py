"""Fisherbench's engine: this module holds the version only."""

__version__ = "0.1.0"
