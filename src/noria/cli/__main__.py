"""``python -m noria.cli`` is the ``noria`` command."""

from noria.cli import main

main()
