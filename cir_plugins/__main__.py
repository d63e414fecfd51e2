"""``python -m cir_plugins``, the same as ``cir``."""

from __future__ import annotations

from cir_plugins.cli import main

if __name__ == "__main__":
    main()
