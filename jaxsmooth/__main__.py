"""``python -m jaxsmooth`` is the command ``jaxsmooth``."""

from jaxsmooth.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
