//! The program `synspan`.
fn main() {}
