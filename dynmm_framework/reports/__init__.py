"""What people read after a run: tables for the terminal and one self-contained page."""
