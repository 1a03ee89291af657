"""The kernel's network over netlink: links, addresses, routes, nftables. Plain sockets, no process is started, nothing is remembered."""
