"""Runs a command that dies with the process that asked for it: `python -m demo.tether PARENT COMMAND...`.

The safety net under `Fleet.stop`: even a demo that is killed outright leaves nothing running. Linux only; elsewhere the
command runs without the net.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the parent died before the command could be tied to it")
    os.execvp(command[0], command)  # noqa: S606 - the command is the fleet's own, and no shell reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
