"""``python -m cvperf`` is the command ``cvperf``; so is ``torchrun ... -m cvperf``."""

from cvperf.cli import main

if __name__ == "__main__":
    main()
