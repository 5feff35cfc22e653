"""ExpressLink itself: everything that makes an ESP32 board answer AT commands."""
