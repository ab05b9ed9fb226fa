"""Workflows: a YAML file of steps, read, checked and planned. Pure: reads no file, runs nothing, knows no clock."""
