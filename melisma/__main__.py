"""`python -m melisma`: the same as the installed script `melisma`."""

from melisma.cli import main

if __name__ == "__main__":
    main()
