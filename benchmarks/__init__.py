"""Scripts that measure; each can be run alone."""
