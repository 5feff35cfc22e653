"""The session with AWS IoT Core and what runs over it."""
