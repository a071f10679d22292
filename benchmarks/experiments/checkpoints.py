"""What is kept on disk while an experiment runs: states of the part that is running, by
orbax, and the records of the parts that are done, as small ``.npz`` files."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

Records = dict[str, np.ndarray]


class Store:
    """A folder of one experiment.

    Args:
        folder: made if it is not there.
        settings: what determines the results; a folder of other settings is refused.

    Raises:
        ValueError: the folder belongs to an experiment with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self.folder / "settings.json"
        text = json.dumps(settings, indent=1, sort_keys=True)
        if known.exists() and known.read_text() != text:
            raise ValueError(
                f"{os.fspath(folder)!r} holds an experiment with other settings: name another "
                "folder with --work-dir, or delete it"
            )
        known.write_text(text)

    def finished(self, part: str) -> Records | None:
        """The records of a part that is done, or None."""
        path = self.folder / f"{part}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)

    def finish(self, part: str, records: Records) -> None:
        """Keep the records of a part and forget its states."""
        path = self.folder / f"{part}.npz"
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            np.savez(file, **records)  # pyright: ignore[reportArgumentType]
        os.replace(unfinished, path)
        shutil.rmtree(self.folder / part, ignore_errors=True)

    def keep(self, part: str, params: Any) -> None:
        """Keep the parameters at the end of a part."""
        leaves = {f"{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(params))}
        np.savez(self.folder / f"{part}-end.npz", **leaves)  # pyright: ignore

    def kept(self, part: str) -> list[np.ndarray] | None:
        """The leaves of what `keep` wrote, each with leading axes (seeds, lanes), or None."""
        path = self.folder / f"{part}-end.npz"
        if not path.exists():
            return None
        with np.load(path) as stored:
            return [stored[name] for name in sorted(stored)]

    def save(self, part: str, done: int, state: Any, records: Records) -> None:
        """Keep the state after some iterations; the one before is forgotten."""
        leaves = {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
        packed = io.BytesIO()
        np.savez(packed, **records)  # pyright: ignore[reportArgumentType]
        leaves["records"] = np.frombuffer(packed.getvalue(), np.uint8)
        with self._states(part) as states:
            states.save(done, args=_orbax().args.StandardSave(leaves))
            states.wait_until_finished()

    def restore(self, part: str, state: Any) -> tuple[int, Any, Records] | None:
        """Iterations done, state and records, or None where there is no checkpoint.

        Args:
            part: its name.
            state: a state of the same structure.
        """
        if not (self.folder / part).exists():
            return None
        with self._states(part) as states:
            done = states.latest_step()
            if done is None:
                return None
            stored = states.restore(done, args=_orbax().args.StandardRestore())
        packed = np.asarray(stored.pop("records"))
        leaves = [jax.numpy.asarray(stored[name]) for name in sorted(stored)]
        with np.load(io.BytesIO(packed.tobytes()), allow_pickle=False) as records:
            return done, jax.tree.unflatten(jax.tree.structure(state), leaves), dict(records)

    def _states(self, part: str) -> Any:
        checkpoint = _orbax()
        options = checkpoint.CheckpointManagerOptions(
            max_to_keep=1, enable_async_checkpointing=False
        )
        return checkpoint.CheckpointManager(self.folder / part, options=options)


def _orbax() -> Any:
    import orbax.checkpoint

    return orbax.checkpoint
