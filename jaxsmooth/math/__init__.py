"""The mathematics: ranges, magnitudes, kernels, facts, norms. Knows no jaxprs."""
