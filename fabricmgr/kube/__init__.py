"""Talking to the API servers of clusters: get, list, watch, and the few writes that are ours."""
