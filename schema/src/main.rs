//! `synspan-schema`: makes what is made of the registry, or checks that it is up to date.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use synspan_schema::{Registry, generate};

/// Makes exporter/src/names.rs and docs/telemetry.md from config/schema/.
#[derive(Debug, Parser)]
struct Cli {
    /// The root of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the files that changed
    Generate,
    /// Fail if a file is not as it would be made now
    Check,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    let registry = Registry::embedded().map_err(|error| error.to_string())?;
    match cli.command {
        Command::Generate => {
            for path in generate::write(&registry, &cli.root).map_err(|error| error.to_string())? {
                println!("{path}");
            }
            Ok(())
        }
        Command::Check => match generate::stale(&registry, &cli.root) {
            stale if stale.is_empty() => Ok(()),
            stale => Err(format!("{} not as config/schema/ says: run `make schema`", stale.join(" and "))),
        },
    }
}
