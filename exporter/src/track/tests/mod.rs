//! The tracker as a whole, fed with hand-made observations.

mod cases;
mod crossings;
mod flow_cases;
mod holders;
mod node_cases;
mod properties;
mod server_cases;
mod stall_cases;
mod survey_cases;
mod timer_cases;
mod world;
