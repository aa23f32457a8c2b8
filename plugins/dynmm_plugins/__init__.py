"""First-party plugins of dynmm, found by entry point like anyone's."""
