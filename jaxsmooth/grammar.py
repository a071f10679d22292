"""The notation of the command line: sets, shapes, and objects of the user's modules.

Text is parsed as Python and evaluated by walking its syntax tree: only literals,
arithmetic on numbers and the names listed here mean anything, so nothing the text
says is executed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import operator
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxsmooth.bounds import anything, ball, box, fixed, linf_ball
from jaxsmooth.errors import ArgumentError

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

_DTYPES = {
    "f16": np.float16,
    "bf16": jax.numpy.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "bool": np.bool_,
}


def parse_bounds(text: str) -> Any:
    """Sets for the arguments, as `jaxsmooth.smooth` takes them.

    Args:
        text: ``ball(1.0)``, ``box(0, 1)``, ``linf_ball(8/255, load("x.npy"))``,
            ``fixed(load("weights.npz"))``, ``anything()``, numbers, and tuples, lists
            and dicts of them; ``inf`` is a number. ``load`` reads an array (``.npy``) or
            a dict of arrays (``.npz``). Or ``module:object``, an object of a module.

    Returns:
        The pytree of sets.

    Raises:
        ArgumentError: the text means nothing here; the message says where.

    Example:
        >>> bounds = parse_bounds("{'w': ball(2.0), 'b': 0.5}, box(0, 1)")
        >>> len(bounds), sorted(bounds[0])
        (2, ['b', 'w'])
    """
    if _OBJECT.fullmatch(text.strip()):
        return load_object(text.strip())
    return _BoundsNotation("bounds", text).value()


def parse_shapes(text: str) -> tuple[Any, ...]:
    """Shapes and dtypes of the arguments, comma-separated.

    Args:
        text: ``f32[64]``, ``i32[]``, and tuples, lists and dicts of them. A comma at
            the top separates arguments: one argument that is a pair is ``(f32[2], f32[3]),``.

    Returns:
        One pytree of `jax.ShapeDtypeStruct` per argument.

    Raises:
        ArgumentError: the text means nothing here; the message says where.

    Example:
        >>> parse_shapes("{'w': f32[10, 64]}, f32[64]")[1]
        ShapeDtypeStruct(shape=(64,), dtype=float32)
    """
    # Python has no empty subscript: f32[] becomes f32[()], which means the same.
    value = _ShapesNotation("shapes", re.sub(r"(\w)\[\s*\]", r"\1[()]", text)).value()
    return value if isinstance(value, tuple) else (value,)


def load_object(name: str) -> Any:
    """The object ``module:attribute`` of a module that the working directory may hold.

    Args:
        name: a module's dotted name, a colon, the dotted name of an attribute of it.

    Returns:
        The object.

    Raises:
        ArgumentError: no such module or attribute, or the module fails to import.

    Example:
        >>> load_object("math:pi")
        3.141592653589793
    """
    if not _OBJECT.fullmatch(name):
        raise ArgumentError(f"{name!r} is not of the form module:object")
    module_name, attribute = name.split(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ArgumentError(
                f"no module {error.name!r}: it is looked for in the working directory "
                "and among the installed packages"
            ) from error
        raise ArgumentError(f"importing {module_name!r} failed: {error}") from error
    except Exception as error:
        raise ArgumentError(
            f"importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ArgumentError(f"module {module_name!r} has no {attribute!r}") from None
    return value


def load_arrays(path: str) -> Any:
    """The array of an ``.npy`` file, or the dict of arrays of an ``.npz`` file."""
    try:
        stored = np.load(path, allow_pickle=False)
        return {key: stored[key] for key in stored.files} if hasattr(stored, "files") else stored
    except (OSError, ValueError) as error:
        raise ArgumentError(f"cannot read arrays from {path!r}: {error}") from error


class _Notation(ABC):
    """Evaluates one text by walking its syntax tree."""

    def __init__(self, subject: str, text: str) -> None:
        self.subject = subject
        self.text = text

    def value(self) -> Any:
        try:
            tree = ast.parse(self.text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = getattr(error, "msg", None) or "too deeply nested"
            raise ArgumentError(f"--{self.subject} {self.text!r}: {reason}") from None
        return self.visit(tree.body)

    def wrong(self, node: ast.AST, expected: str) -> ArgumentError:
        return ArgumentError(f"--{self.subject}: {ast.unparse(node)!r} is not {expected}")

    def visit(self, node: ast.expr) -> Any:
        match node:
            case ast.Tuple():
                return tuple(self.visit(child) for child in node.elts)
            case ast.List():
                return [self.visit(child) for child in node.elts]
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                return {self.key(k, node): self.visit(v) for k, v in pairs}
            case _:
                return self.leaf(node)

    def key(self, node: ast.expr | None, dictionary: ast.Dict) -> str | int:
        match node:
            case ast.Constant(value=str() | int() as key):
                return key
            case ast.Name(id=name):
                return name
            case _:
                raise self.wrong(dictionary, "a dict whose keys are names or numbers")

    @abstractmethod
    def leaf(self, node: ast.expr) -> Any:
        """What stands at a leaf of the pytree."""


class _BoundsNotation(_Notation):
    SETS: Mapping[str, Callable[..., Any]] = {
        "ball": ball,
        "box": box,
        "linf_ball": linf_ball,
        "fixed": fixed,
        "anything": anything,
    }

    def leaf(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id="inf"):
                return np.inf
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.number(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                try:
                    return _ARITHMETIC[type(op)](self.number(left), self.number(right))
                except (ZeroDivisionError, OverflowError):
                    raise self.wrong(node, "a number") from None
            case ast.Call(func=ast.Name(id="load"), args=[ast.Constant(value=str() as path)]):
                return load_arrays(path)
            case ast.Call(func=ast.Name(id=name)) if name in self.SETS:
                return self.set(name, node)
            case _:
                raise self.wrong(node, f"a number or one of {', '.join(self.SETS)}, load")

    def number(self, node: ast.expr) -> Any:
        value = self.visit(node)
        if not isinstance(value, int | float):
            raise self.wrong(node, "a number")
        return value

    def set(self, name: str, node: ast.Call) -> Any:
        if any(keyword.arg is None for keyword in node.keywords):
            raise self.wrong(node, "a set: ** has no meaning here")
        arguments = [self.visit(argument) for argument in node.args]
        keywords = {str(k.arg): self.visit(k.value) for k in node.keywords}
        try:
            return self.SETS[name](*arguments, **keywords)
        except TypeError as error:
            raise ArgumentError(f"--{self.subject}: {ast.unparse(node)!r}: {error}") from None


class _ShapesNotation(_Notation):
    def leaf(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name) if name in _DTYPES:
                return jax.ShapeDtypeStruct((), _DTYPES[name])
            case ast.Subscript(value=ast.Name(id=name), slice=size) if name in _DTYPES:
                sizes = size.elts if isinstance(size, ast.Tuple) else [size]
                return jax.ShapeDtypeStruct(tuple(map(self.size, sizes)), _DTYPES[name])
            case _:
                raise self.wrong(node, f"a dtype and shape such as f32[64] ({', '.join(_DTYPES)})")

    def size(self, node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as size) if not isinstance(size, bool) and size >= 0:
                return size
            case _:
                raise self.wrong(node, "a size")
