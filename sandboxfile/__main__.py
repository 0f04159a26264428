"""`python -m sandboxfile`."""

from sandboxfile.entry import run

if __name__ == "__main__":
    run()
