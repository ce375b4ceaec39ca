"""What a worker must offer before it gets a tile: a process of its own, the same versions, the job folder, the model."""
