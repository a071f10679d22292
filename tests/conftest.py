"""Programs of tests run for a moment, and many tests compile the same ones."""

from __future__ import annotations

import os
import tempfile

import jax
import pytest

from tests.soundness.garbage import collect_seldom

_COMPILED = pytest.StashKey[tempfile.TemporaryDirectory]()
_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    # What is slow runs long enough to be worth optimising.
    if "not slow" in config.option.markexpr:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    # One folder for all processes of a run, which inherit its name. What one reads while
    # another one writes it is compiled again.
    if _CACHE not in os.environ:
        config.stash[_COMPILED] = tempfile.TemporaryDirectory(prefix="jaxsmooth-tests-")
        os.environ[_CACHE] = config.stash[_COMPILED].name
    jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_finish() -> None:
    collect_seldom()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _COMPILED in config.stash:
        del os.environ[_CACHE]
        config.stash[_COMPILED].cleanup()
