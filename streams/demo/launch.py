"""Become another program, one that ends when its parent ends. Run as a script, never imported.

    python launch.py PARENT_PID CPUS PROGRAM ARGUMENT…

A `preexec_fn` would run Python between fork and exec in a process full of threads, which may hang;
this script does the same in a process of its own. CPUS is `-` or numbers with
commas. Knows nothing of brokers.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives execve


def main() -> None:
    parent, cpus, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
            sys.exit(f"launch: prctl failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it died before the line above
            sys.exit("launch: the parent is gone")
        if cpus != "-":
            os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
