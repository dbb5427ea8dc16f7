"""Networks by name: torchvision, CIFAR ResNets, shipped and locally trained ones."""
