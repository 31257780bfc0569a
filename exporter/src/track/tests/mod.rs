//! The tracker as a whole, fed with hand-made observations.

mod cases;
mod crossings;
mod holders;
mod node_cases;
mod properties;
mod server_cases;
mod world;
