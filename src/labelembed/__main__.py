"""`python -m labelembed`, which `accelerate launch -m labelembed` needs."""

from labelembed.cli import main

if __name__ == "__main__":
    main()
