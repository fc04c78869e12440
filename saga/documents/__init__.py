"""What contracts tell their readers, made of the schemas alone: the same ones always give the same bytes."""
