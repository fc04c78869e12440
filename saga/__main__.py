"""`python -m saga` is `saga`, of the very Python that is named."""

from saga.cli import main

if __name__ == "__main__":
    main()
