"""`headrace …` and `python -m streams …`."""

import logging
import os
import sys
import threading

from streams.cli.run import run


def main() -> None:
    """Run one command and end the process with its exit code."""
    code = run(sys.argv[1:])
    if any(thread is not threading.main_thread() for thread in threading.enumerate()):
        # A model is still being loaded: torch aborts the process (exit 134) when the interpreter is taken down
        # under it. All that had to be finished is finished.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
