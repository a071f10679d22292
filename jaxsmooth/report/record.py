"""Dataclasses of numbers, arrays and text as strict JSON, restored to the last bit.

JSON has no infinity, no NaN and no arrays: they are objects with one tag each. A float is
written with the shortest digits that read back as the same float.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import numpy as np

from jaxsmooth.errors import ArgumentError
from jaxsmooth.math.array import is_traced

T = TypeVar("T")


def to_record(record: Any, schema: str, tags: Mapping[type, str]) -> str:
    """A dataclass as JSON; the dataclasses inside it are those that have tags.

    Raises:
        ArgumentError: if one of its numbers is traced.
    """
    body = {f.name: _encode(getattr(record, f.name), f.name, tags) for f in fields(record)}
    return json.dumps({"schema": schema, **body}, indent=1, ensure_ascii=False, allow_nan=False)


def from_record(text: str, kind: type[T], schema: str, tags: Mapping[str, type]) -> T:
    """The dataclass that `to_record` wrote.

    Raises:
        ArgumentError: if the text is something else.
    """
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise ArgumentError(f"this is no {kind.__name__}: not JSON, {error}") from None
    if not isinstance(body, dict) or "schema" not in body:
        raise ArgumentError(f"this is no {kind.__name__}: it has no schema; expected {schema}")
    if body.pop("schema") != schema:
        raise ArgumentError(
            f"this {kind.__name__} has another schema than {schema}: read it with the version "
            f"of jaxsmooth that wrote it"
        )
    return _build(kind, body, tags)


def _build(kind: Any, body: Mapping[str, Any], tags: Mapping[str, type]) -> Any:
    known = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if set(body) - known or needed - set(body):
        raise ArgumentError(
            f"this is no {kind.__name__}: unexpected {sorted(set(body) - known)}, missing "
            f"{sorted(needed - set(body))}"
        )
    return kind(**{name: _decode(value, tags) for name, value in body.items()})


def _encode(x: Any, path: str, tags: Mapping[type, str]) -> Any:
    if is_traced(x):
        raise ArgumentError(
            f"{path} is traced: return the certificate from the jitted function, then write it"
        )
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, (float, np.floating)):
        return _encode_float(float(x))
    if isinstance(x, np.integer):
        return int(x)
    if isinstance(x, tuple):
        return [_encode(item, f"{path}[{i}]", tags) for i, item in enumerate(x)]
    if isinstance(x, dict):
        items = [[key, _encode(value, f"{path}[{key}]", tags)] for key, value in x.items()]
        return {"dict": items}
    if type(x) in tags:
        body = {f.name: _encode(getattr(x, f.name), f"{path}.{f.name}", tags) for f in fields(x)}
        return {tags[type(x)]: body}
    return _encode_array(np.asarray(x), path, tags)


def _encode_float(x: float) -> Any:
    return x if math.isfinite(x) else {"float": repr(x)}


def _encode_array(x: np.ndarray, path: str, tags: Mapping[type, str]) -> Any:
    if x.ndim == 0:
        return _encode(x.item(), path, tags)
    flat = x.reshape(-1).tolist()
    constant = x.size > 1 and x.tobytes() == np.broadcast_to(x.flat[0], x.shape).tobytes()
    data = [_encode(item, path, tags) for item in (flat[:1] if constant else flat)]
    body = {"dtype": x.dtype.name, "shape": list(x.shape)}
    return {"array": {**body, "fill": data[0]} if constant else {**body, "data": data}}


def _decode(x: Any, tags: Mapping[str, type]) -> Any:
    if isinstance(x, list):
        return tuple(_decode(item, tags) for item in x)
    if not isinstance(x, dict):
        return x
    tag: str = next(iter(x), "")
    body: Any = x.get(tag)
    if tag == "float":
        return float(body)
    if tag == "dict":
        return {key: _decode(value, tags) for key, value in body}
    if tag == "array":
        data = body["fill"] if "fill" in body else body["data"]
        values = np.asarray(_decode(data, tags), dtype=body["dtype"])
        return np.full(body["shape"], values) if "fill" in body else values.reshape(body["shape"])
    if tag in tags:
        return _build(tags[tag], body, tags)
    raise ArgumentError(f"unknown tag {tag!r}")
