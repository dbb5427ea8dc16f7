"""Moved to tests/networks; this file stays until tests/test_second_device.py imports from there."""

from tests.networks import *  # noqa: F403
