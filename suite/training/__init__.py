"""Plain torch training: loop, clock, limits, evaluation, schedule, memory. No Ray, no files."""
