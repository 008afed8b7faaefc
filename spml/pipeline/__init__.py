"""Pipelines: the chain of stages that a bash script lists, judged, run and recorded (`python -m spml.pipeline`)."""
