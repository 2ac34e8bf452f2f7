"""Several processes for one machine: fronts that know HTTP, an engine that knows the models.

``FERSERVE_FRONT_PROCESSES=2``: the process that ``ferserve serve`` starts is the engine. It owns
the models, their batchers and the GPU, and starts fronts, which accept connections from the same
sockets, decode images and find faces. Faces go to the engine and scores come back through shared
memory; what says so goes over a socket pair between the engine and each front.

- ``supervisor``: starts the fronts, replaces those that die, ends all of them in order.
- ``engine``: what a front can ask of the engine.
- ``front``: the process of a front; ``__main__`` runs it.
- ``channel``: calls between two processes; ``memory``: what they share.
- ``queue``, ``limits``, ``forwarding``: the fronts' batchers, limits and benchmarks, which are the
  engine's; ``metrics``: one page of all processes.
"""
