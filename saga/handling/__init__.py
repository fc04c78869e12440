"""What is done about one workflow in an open transaction: a fact is taken in, `decide` is asked, handlers run, fences move."""
