"""The exit codes of the commands.

exit 0    all done
exit 1    some inputs failed, each is reported with its reason; the others are done
exit 2    the request itself is wrong, or nothing could be done
exit 130  interrupted, by Ctrl-C or by a signal that ends processes (SIGTERM, SIGHUP)
"""

from __future__ import annotations

SOME_FAILED = 1
WRONG = 2
INTERRUPTED = 130
