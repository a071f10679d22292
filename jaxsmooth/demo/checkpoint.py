"""Training state on disk: one small ``.npz`` file, replaced as a whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsmooth.errors import ArgumentError


def save(path: Path, state: Any, facts: dict[str, Any]) -> None:
    """Write a pytree of arrays with facts about it.

    The file is written beside its final place and then moved there, so that an
    interruption leaves the previous checkpoint whole.

    Args:
        path: where to; its folder exists.
        state: pytree of arrays.
        facts: what JSON can hold.

    Raises:
        ArgumentError: the file cannot be written.
    """
    leaves = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    unfinished = path.with_name(path.name + ".part")
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, facts=np.asarray(json.dumps(facts)), **leaves)  # pyright: ignore
        os.replace(unfinished, path)
    except OSError as error:
        raise ArgumentError(f"cannot write the checkpoint {os.fspath(path)!r}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """Read what `save` wrote.

    Args:
        path: where from.
        like: pytree with the structure, shapes and dtypes of the state.

    Returns:
        The state, and the facts.

    Raises:
        ArgumentError: no such file, not a checkpoint, or one of another network.
    """
    leaves, treedef = jax.tree.flatten(like)
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            arrays = [stored[f"leaf_{i}"] for i in range(len(stored.files) - 1)]
    except FileNotFoundError as error:
        raise ArgumentError(f"no checkpoint {os.fspath(path)!r} to resume from") from error
    except (OSError, KeyError, ValueError) as error:
        raise ArgumentError(f"{os.fspath(path)!r} is not a checkpoint of the demo") from error
    if [(a.shape, a.dtype) for a in arrays] != [(np.shape(b), b.dtype) for b in leaves]:
        raise ArgumentError(
            f"the checkpoint {os.fspath(path)!r} holds another network: give the same "
            "--dataset and --hidden, or leave out --resume"
        )
    return jax.tree.unflatten(treedef, [jax.numpy.asarray(a) for a in arrays]), facts
