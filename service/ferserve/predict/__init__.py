"""``ferserve predict``: images, folders and videos, without a server."""
