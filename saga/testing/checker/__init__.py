"""Whether a run kept every promise, judged by what it left behind. Begin with `judgement`."""
