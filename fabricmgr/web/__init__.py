"""Who is asking, what they may do, and how a problem is answered: shared by /v1, Redfish and the raw routes."""
