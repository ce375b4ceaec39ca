"""Memory of this process: its peak, and the reuse of what was freed."""
