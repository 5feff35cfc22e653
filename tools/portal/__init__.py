"""The page that CONFMODE shows on a phone: its source, and the builder that packs it."""
