"""fabricmgr: a Fabric Manager. It hands out every address, puts pods on the network, and shows the fabric as a Redfish service."""

__version__ = "0.1.0"
