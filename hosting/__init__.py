"""What the daemon and the viewer stand on alike. It knows neither."""
