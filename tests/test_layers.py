"""Every module imports only from the layers before its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent.parent / "jaxsmooth"

# Modules and subpackages from the bottom to the top; those on one line do not know each other.
_LAYERS = (
    {"_compat", "errors"},
    {"program", "math"},
    {"report"},
    {"certificate"},
    {"bounds"},
    {"rules"},
    {"analysis"},
    {"allocation"},
    {"verification"},
    {"smoothing", "extension"},
    {"data", "grammar"},
    {"demo"},
    {"cli"},
    {"__init__", "__main__"},
)
# Within one layer these may be imported by the others of it.
_ROOTS = {"errors"}


def _level(part: str) -> int:
    for level, parts in enumerate(_LAYERS):
        if part in parts:
            return level
    raise AssertionError(f"jaxsmooth.{part} is in no layer: give it its place in {__file__}")


def _part(module: str) -> str:
    """``jaxsmooth.math.array`` -> ``math``; the package itself -> ``__init__``."""
    return [*module.split("."), "__init__"][1]


def _imports(tree: ast.Module) -> list[tuple[int, str]]:
    """(line, module) of every import that runs, also of those inside functions."""
    skipped = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for statement in guard.body
        for node in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import from jaxsmooth by its full name"
            module = str(node.module)
            names = [f"{module}.{a.name}" for a in node.names] if module == "jaxsmooth" else []
            found += [(node.lineno, name) for name in names or [module]]
    return found


_FILES = sorted(_PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", _FILES, ids=lambda f: str(f.relative_to(_PACKAGE)))
def test_imports_point_downwards(file):
    relative = file.relative_to(_PACKAGE).with_suffix("")
    own = relative.parts[0]
    for line, module in _imports(ast.parse(file.read_text(encoding="utf-8"))):
        if module.split(".")[0] != "jaxsmooth":
            continue
        other = _part(module)
        if other == own or (other in _ROOTS and own not in _ROOTS):
            continue
        assert _level(other) < _level(own), (
            f"{file.name}:{line}: {own} must not import {module}, which is not below it"
        )


@pytest.mark.parametrize("file", _FILES, ids=lambda f: str(f.relative_to(_PACKAGE)))
def test_only_public_jax(file):
    for line, module in _imports(ast.parse(file.read_text(encoding="utf-8"))):
        private = module.startswith(("jax._src", "jax.interpreters", "jaxlib"))
        assert not private, f"{file.name}:{line}: {module} is not public"


def test_every_module_has_a_docstring():
    for file in _FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) or not tree.body, f"{file} has no docstring"
