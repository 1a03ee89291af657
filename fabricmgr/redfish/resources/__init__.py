"""One file per Redfish resource; `all_resources` is what a tree is made of."""
