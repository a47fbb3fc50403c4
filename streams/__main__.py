"""`headrace …` and `python -m streams …`."""

import sys

from streams.cli.run import run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
