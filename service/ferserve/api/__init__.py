"""The HTTP routes: thin, one module a resource."""
