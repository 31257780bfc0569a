//! The program `synspan`: wires the commands, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use synspan::cli::Cli;

// An attempt's telemetry is some hundred small strings: the system's allocator took a fifth of the
// agent's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::parse().execute()
}
