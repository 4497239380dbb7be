"""``python -m callboard.cli`` is ``callboard``."""

from . import main

main(prog_name="callboard")
