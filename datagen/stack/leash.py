"""Run as a script: becomes another program, which dies with the process that started it.

    leash.py PARENT SIGNAL USER PROGRAM [ARGUMENT ...]

The kernel sends SIGNAL when PARENT ends, however it ends. USER is a number, or - to stay the same.
Called by programs.launch alone. Imports next to nothing: it stands before every child's start.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, signal_number: int, user: str, command: list[str]) -> None:
    if user != "-":
        import pwd

        os.setgroups([])
        os.setgid(pwd.getpwuid(int(user)).pw_gid)
        os.setuid(int(user))
    # After the change of user, which would clear it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent has ended already")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
