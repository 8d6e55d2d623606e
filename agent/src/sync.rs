//! The controller channel, agent side.
