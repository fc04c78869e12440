"""What the topics say of the past. It reads only, and nobody depends on it; the fold is `state`."""
