"""The station's link to the access point, and the clock."""
