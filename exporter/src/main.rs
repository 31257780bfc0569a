//! The program `synspan`: wires the commands, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use synspan::cli::Cli;

/// What a storm of attempts needed goes back to the kernel, and less is lost between what is held
/// (docs/decisions/0013-the-allocator.md).
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    Cli::parse().execute()
}
