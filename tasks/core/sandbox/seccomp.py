"""System calls that a process gives up for good: seccomp(2) with a filter of classic BPF.

Refused calls fail with EPERM, which programs report; those that did not exist when this was written with ENOSYS, as on
an older kernel. Creating files, reading and writing them is landlock.py's affair.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import struct
import sys
from collections.abc import Iterator
from typing import Final

LAST_KNOWN: Final = 451
"""cachestat. What came later is neither needed nor looked through here; its numbers are the same everywhere."""

_NONE: Final = -1
_FORBIDDEN: Final = {
    # other processes: their memory, descriptors, signals, priorities
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    # the network, and other ways to talk
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "connect": (42, 203),
    "accept4": (288, 242),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semop": (65, 193),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_notify": (244, 184),
    # new processes, groups and namespaces; for clone3 ENOSYS is said, so that libraries use clone, which is looked into
    "fork": (57, _NONE),
    "vfork": (58, _NONE),
    "unshare": (272, 97),
    "setns": (308, 268),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # mounts and what a file is besides its content: Landlock says nothing of owners and permissions
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "chmod": (90, _NONE),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, _NONE),
    "fchown": (93, 55),
    "lchown": (94, _NONE),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "utime": (132, _NONE),
    "utimes": (235, _NONE),
    "futimesat": (261, _NONE),
    "utimensat": (280, 88),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "inotify_init": (253, _NONE),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # large parts of the kernel that decoding needs nothing of; io_uring does its calls past this filter
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "memfd_secret": (447, 447),
    # the host, and who this process is
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "vhangup": (153, 58),
    "iopl": (172, _NONE),
    "ioperm": (173, _NONE),
    "modify_ldt": (154, _NONE),
    "personality": (135, 92),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
    "capset": (126, 91),
}
"""Numbers on x86-64 and on 64-bit ARM; those without an entry of their own there have another name."""
_PROGRAMS: Final = {"execve": (59, 221), "execveat": (322, 281)}
_CLONE, _CLONE3, _KILL, _TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
_PRLIMIT, _FCNTL, _IOCTL = (302, 261), (72, 25), (16, 29)

_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables, and the kernel's name (AUDIT_ARCH of linux/audit.h)."""
_X32: Final = 0x4000_0000
"""Numbers from here on are x86-64's second set of calls."""

_CLONE_THREAD: Final = 0x10000
_OF_OTHERS: Final = (8, 15, 10)
"""F_SETOWN, F_SETOWN_EX, F_SETSIG: a descriptor's signals to another process."""

# linux/bpf_common.h, linux/filter.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _PR_GET_SECCOMP, _MODE_FILTER = 22, 21, 2

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def missing() -> str | None:
    """Why no filter can be set here; None where one can."""
    if sys.platform != "linux":
        return f"{platform.system()} has no seccomp"
    if platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32 or sys.byteorder != "little":
        return f"no filter is written for {platform.machine()}"
    if _libc().prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return "this kernel is built without seccomp"
    return None


def forbid(*, programs: bool) -> None:
    """Gives the calls up, for this thread and all that it starts; with `programs` it may still become another one.

    no_new_privs must be set. Raises OSError.
    """
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in _filter(programs=programs))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    libc = _libc()
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _filter(*, programs: bool) -> Iterator[Instruction]:
    column, architecture = _ARCHITECTURES[platform.machine()]
    yield (_LOAD, 0, 0, _ARCH)
    yield (_EQUAL, 1, 0, architecture)
    yield (_RETURN, 0, 0, _KILL_PROCESS)
    yield (_LOAD, 0, 0, _NUMBER)
    yield (_AT_LEAST, 0, 1, LAST_KNOWN + 1)  # _X32 as well
    yield (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    yield from _refuse(_CLONE3[column], errno.ENOSYS)
    yield from _refuse(_IOCTL[column], errno.ENOTTY)
    for numbers in [*_FORBIDDEN.values(), *([] if programs else _PROGRAMS.values())]:
        if numbers[column] != _NONE:
            yield from _refuse(numbers[column], errno.EPERM)
    yield from _look(_CLONE[column], 0, [(_ANY_BIT, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW)])
    for call, argument, own in ((_KILL, 0, os.getpid()), (_TGKILL, 0, os.getpid())):
        yield from _look(call[column], argument, [(_EQUAL, 0, 1, own), (_RETURN, 0, 0, _ALLOW)])
    yield from _look(_PRLIMIT[column], 0, [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)])
    signals: list[Instruction] = [(_EQUAL, len(_OF_OTHERS) - i, 0, command) for i, command in enumerate(_OF_OTHERS)]
    yield from _look(_FCNTL[column], 1, [*signals, (_RETURN, 0, 0, _ALLOW)])
    yield (_RETURN, 0, 0, _ALLOW)


def _refuse(number: int, code: int) -> list[Instruction]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | code)]


def _look(number: int, argument: int, allowed: list[Instruction]) -> list[Instruction]:
    """The call is refused where `allowed`, which sees the low half of an argument, does not return before its end."""
    return [
        (_EQUAL, 0, len(allowed) + 2, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        *allowed,
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
