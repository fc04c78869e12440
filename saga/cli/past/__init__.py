"""Commands that read the topics again."""
