//! The program `synspan`: wires the commands, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use synspan::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().execute()
}
