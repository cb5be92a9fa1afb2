"""Algorithm configuration by racing. Nothing is imported here: Hydra imports `sweeper` at every start."""
