"""The configuration dictionary (guide, chapter 5) and the files it is kept in."""
