"""Networks by name: torchvision's, CIFAR ResNets, shipped and locally trained networks."""
