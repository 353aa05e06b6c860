// Proves that a batch of the convolutional network allocates nothing where Eigen's matrix products do not.
