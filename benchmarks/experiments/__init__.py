"""The paper's experiments on the real data: ``python -m benchmarks.experiments --help``."""
