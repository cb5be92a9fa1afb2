"""Anomalies in computational workflows: found without labels, or by asking for the right experiment."""
