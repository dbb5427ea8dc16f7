"""`xaikit`, and `python -m xaikit`: Ctrl-C is one line also while the command line itself is imported."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from xaikit.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("xaikit: interrupted\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
