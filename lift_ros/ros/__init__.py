"""The ROS 2 layer: messages in, messages out. No algorithm lives here."""
