"""``python -m session_manager``: the command ``session-manager``."""

from session_manager.cli import main

if __name__ == "__main__":
    main()
