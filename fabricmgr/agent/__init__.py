"""The daemon on each node: serves CNI calls, holds the node's blocks, and tells the manager afterwards."""
