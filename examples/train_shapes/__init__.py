"""Teaches the video transformer a small world of moving shapes, and judges what it makes of it."""
