"""The ``noria`` command: a thin edge; each verb translates, calls one function and shows the answer."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; a user's mistake is one clear message and a non-zero exit status."""
    # Training shares the machine with serving. OpenMP threads that wait by spinning, or that outnumber the cores left
    # to them, make it some ten times slower on a small machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))
    from noria.cli.app import application
    from noria.errors import DeclarationError, NoriaError

    try:
        application(prog_name="noria")
    except DeclarationError as error:
        count = len(error.faults)
        print(f"{error}\n{count} fault{'s' if count != 1 else ''}.", file=sys.stderr)
        sys.exit(1)
    except NoriaError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped. Nothing is lost: the same command takes up where it was.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        import errno

        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"Error: {error.strerror}{where}. Nothing was recorded.", file=sys.stderr)
        sys.exit(1)
