"""Memory: the free memory of a device, and the errors raised when it runs out."""

import os
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int:
    """Return the free memory of a device in bytes; 4 GiB if the system does not report it."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 * 1024**3


def out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on any device.

    oneDNN, which computes convolutions on CPUs, says only that it could not create a primitive.
    """
    phrases = ("can't allocate memory", "not enough memory", "out of memory", "could not create a primitive")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(phrase in str(error) for phrase in phrases)
