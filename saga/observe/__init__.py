"""What others may see of a worker: health, figures, spans. It reads what was seen last and asks nobody."""
