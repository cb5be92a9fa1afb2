"""Decoder-only transformers, trained over data, sharded-state, pipeline and tensor axes by one step."""
