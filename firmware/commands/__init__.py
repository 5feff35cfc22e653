"""The commands, one file per chapter of the guide; `table` says where each one lives."""
