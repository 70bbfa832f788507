"""Models that are made of other models: blends, the hand-over of a new farm, the model of the whole fleet."""
