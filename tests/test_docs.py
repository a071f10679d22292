"""The documentation is whole, its links lead somewhere, and its examples run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import jaxsmooth

_ROOT = Path(__file__).parent.parent
_DOCS = _ROOT / "docs"
_PAGES = [_ROOT / "README.md", *sorted(_DOCS.rglob("*.md"))]
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)]*)?\)")


def _name(page: Path) -> str:
    return str(page.relative_to(_ROOT))


@pytest.mark.parametrize("symbol", sorted(jaxsmooth.__all__))
def test_public_symbol_is_in_the_reference(symbol):
    reference = "\n".join(p.read_text(encoding="utf-8") for p in (_DOCS / "reference").glob("*.md"))
    assert re.search(rf"^::: jaxsmooth\.{symbol}$", reference, re.MULTILINE), (
        f"add '::: jaxsmooth.{symbol}' to a page of docs/reference"
    )


def test_the_reference_names_only_public_symbols():
    for page in (_DOCS / "reference").glob("*.md"):
        for symbol in re.findall(r"^::: jaxsmooth\.(\w+)$", page.read_text("utf-8"), re.MULTILINE):
            assert symbol in jaxsmooth.__all__, f"{page.name} documents jaxsmooth.{symbol}"


@pytest.mark.parametrize("symbol", sorted(jaxsmooth.__all__))
def test_public_symbol_has_a_docstring(symbol):
    value = getattr(jaxsmooth, symbol)
    assert not callable(value) or (value.__doc__ or "").strip(), symbol


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_examples_run(page):
    """The Python of a page is one session: plain code runs, prompts are doctests."""
    text = page.read_text(encoding="utf-8")
    session: dict[str, object] = {}
    for match in _CODE.finditer(text):
        code, line = match.group(1), text[: match.start()].count("\n") + 1
        if ">>>" not in code:
            exec(compile("\n" * line + code, str(page), "exec"), session)
            continue
        examples = doctest.DocTestParser().get_doctest(code, session, page.name, str(page), line)
        examples.globs = session
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        failures: list[str] = []
        doctest.DocTestRunner(optionflags=flags).run(
            examples, out=failures.append, clear_globs=False
        )
        assert not failures, "".join(failures)


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{_name(page)} links to {target}"


def test_every_page_is_in_the_navigation():
    navigation = (_ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in _DOCS.rglob("*.md"):
        assert str(page.relative_to(_DOCS)) in navigation, f"{_name(page)} is not in mkdocs.yml"
