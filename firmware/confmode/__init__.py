"""CONFMODE: a person gives the module its credentials (guide 3.6.5)."""
