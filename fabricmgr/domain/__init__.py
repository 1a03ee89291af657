"""What is true about pools, blocks, allocations, nodes and events. Standard library only: no IO, no clock, no log."""
