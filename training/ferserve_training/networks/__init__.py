"""The networks, one module each: `build(...)` takes uint8 faces and returns logits."""
