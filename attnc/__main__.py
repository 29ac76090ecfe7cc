"""``python -m attnc``: the same as the command ``attnc``."""

from __future__ import annotations

from .cli.main import main

if __name__ == "__main__":
    main()
