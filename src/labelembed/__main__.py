"""`python -m labelembed`, and the command `labelembed`."""

import sys


def main() -> None:
    """Runs the command line; without the packages of the lab, says in one line what to install."""
    try:
        from labelembed.lab.cli import main as run
    except ImportError as error:
        if error.name is not None:  # a module that is there and fails
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
