//! The tracker as a whole, fed with hand-made observations.

mod cases;
mod properties;
mod world;
