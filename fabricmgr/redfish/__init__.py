"""The Redfish service: one declaration per resource, and one layer that owns every answer below /redfish (DSP0266)."""
