"""The command line of a script: its flags, and one line and an exit status for what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import tyro


def command(
    main: Callable[[Any], int], config: type, description: str | None, *, kept: str = ""
) -> NoReturn:
    """Runs a script with its flags; `kept` is what a message says of what was written before."""
    kept = f"; {kept}" if kept else ""
    try:
        sys.exit(main(tyro.cli(config, description=description)))
    except ValueError as error:  # wrong flags, data, model or folder
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"error: {error}{kept}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"\nstopped{kept}", file=sys.stderr)
        sys.exit(130)
