"""Reports: statistics, figures and pages made from stored results alone.

Start at :func:`reports.page.render`. Nothing here loads torch or ray.
"""
