"""Advice: the operating point to set within given limits, for one workload or for all, and which model to ask."""
