"""Reports: statistics, figures and pages made from stored results alone.

``reports.load(uri)`` answers questions in pandas frames; :func:`reports.page.render` makes the page. Nothing here loads
torch or ray.
"""

from reports.questions import Questions, load

__all__ = ["Questions", "load"]
