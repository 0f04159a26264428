"""`python -m sandboxfile`."""

from sandboxfile.main import run

if __name__ == "__main__":
    run()
