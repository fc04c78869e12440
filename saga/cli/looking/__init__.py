"""Commands that look at what is; they change nothing."""
