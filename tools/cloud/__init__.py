"""The local cloud: a strict, offline stand-in for AWS IoT Core's broker and registry."""
