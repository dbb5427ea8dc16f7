"""What a run says meanwhile in Python: lines of the logger `xaikit`, which stand on standard error by default."""

import logging

_LOG = logging.getLogger("xaikit")


def tell(line: str) -> None:
    """Say one line."""
    _LOG.warning("%s", line)
