"""Will it fit, how long does a step take, which recipe is best: asked before a job is queued."""
