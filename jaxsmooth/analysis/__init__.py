"""The analysis: what a traced function does to ranges, magnitudes and curvature."""
