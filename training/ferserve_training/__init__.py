"""Training: backend-free Keras 3 on FER2013."""
