"""What the measurements mean: frames, estimates, comparisons, figures and the report."""
