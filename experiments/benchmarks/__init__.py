"""Side-by-side measurements, each an experiment too."""
