"""The command line of a script: its flags, and one line and an exit status for what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import tyro
from problems import end, problem_of

from jaxembed.console import write_anything


def command(
    main: Callable[[Any], int], config: type, description: str | None, *, kept: str = ""
) -> NoReturn:
    """Runs a script with its flags; `kept` is what a message says of what was written before."""
    write_anything()
    try:
        status = main(tyro.cli(config, description=description))
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as in `--help | head`
        end(141)
    except Exception as error:
        status, problem = problem_of(error, kept=kept, smaller="lower --batch-size")
        print(f"error: {problem}", file=sys.stderr)
        end(status)
    except KeyboardInterrupt:
        status, problem = problem_of(KeyboardInterrupt(), kept=kept)
        print(f"\n{problem}", file=sys.stderr)
        end(status)
    sys.exit(status)
