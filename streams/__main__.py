"""`headrace …` and `python -m streams …`."""

import sys

from streams.cli.run import leave, run


def main() -> None:
    """Run one command and end the process with its exit code."""
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
