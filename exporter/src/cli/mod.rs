//! The commands.

pub mod ask;
#[cfg(target_os = "linux")]
pub mod capabilities;
pub mod causes;
pub mod check;
#[cfg(target_os = "linux")]
pub mod clean;
#[cfg(target_os = "linux")]
pub mod doctor;
pub mod exporters;
pub mod replay;
#[cfg(feature = "live")]
pub mod run;
pub mod schema;
#[cfg(feature = "live")]
mod selftest;
pub mod stages;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

#[cfg(target_os = "linux")]
use crate::capture::probe;
use crate::config::{Config, LogLevel, ProcessEnv};
use crate::own;

/// It worked.
pub const OK: u8 = 0;
/// It could not be done, or not all of it.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const WRONG: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  synspan run                         watch this machine, show what went wrong on the console
  synspan run --config synspan.yaml   the same, sent where the file says
  synspan attempts --failed           what went wrong of late, asked of the running agent
  synspan who 46994                   who had this source port, and how it ended
  synspan status                      is it well, what is lost, since when an export fails
  synspan check synspan.yaml --send   is the file right, and do the backends take a span?
  synspan replay capture.pcap         the same verdicts from what tcpdump wrote, with no privileges
  synspan doctor                      what works here, what is missing, and how to get it
  synspan clean                       take away what a killed agent left

Exit status: 0 it worked; 1 it could not be done; 2 the command line, the configuration or a
capture file is wrong.
Logs go to standard error; RUST_LOG sets what they tell (as `RUST_LOG=synspan=debug`).";

/// A span for every SYN: TCP connection attempts as OpenTelemetry traces, with both sides of the NAT.
#[derive(Debug, Parser)]
#[command(name = "synspan", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch connection attempts and send what is found, until SIGTERM or SIGINT
    #[cfg(feature = "live")]
    #[command(
        after_help = "Needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; `synspan doctor` says what more capabilities buy.\nEnds cleanly on SIGTERM and SIGINT: what is pending is sent, for at most ten seconds."
    )]
    Run(run::Args),
    /// Ask the running agent for the attempts of late
    #[command(after_help = ask::attempts::EXAMPLES)]
    Attempts(ask::attempts::Args),
    /// Ask the running agent who had a source port, on which tuples, when, and how it ended
    #[command(after_help = ask::who::EXAMPLES)]
    Who(ask::who::Args),
    /// Ask the running agent how it is: what is seen, lost, sent, and how old what it knows is
    #[command(after_help = ask::status::EXAMPLES)]
    Status(ask::status::Args),
    /// Say of capture files what `run` would have said: pcap and pcapng, no privileges
    #[command(after_help = replay::HELP)]
    Replay(replay::Args),
    /// Check a configuration; with --send, send a test span to each of its exporters
    Check(check::CheckArgs),
    #[cfg(target_os = "linux")]
    /// Say what works here, what is lost where something is missing, and how to get it
    Doctor(doctor::Args),
    /// Print docs/causes.md: every cause, how it is proven, confirmed by hand, and mended
    #[command(hide = true)]
    Causes,
    /// Print the schema of all telemetry: every span, event, metric, attribute and resource
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::Args),
    #[cfg(target_os = "linux")]
    /// Take away what a killed agent left behind, or with --running what one would leave
    #[command(
        after_help = "Filters at clsact alone outlive an agent (kernels below 6.6, or capture.attach: clsact). Takes CAP_NET_ADMIN,\nand CAP_SYS_PTRACE and the host's pid namespace to see who uses a filter."
    )]
    Clean(clean::Args),
}

impl Cli {
    /// Carries the command out; the result is the exit status.
    pub fn execute(self) -> ExitCode {
        match self.command {
            #[cfg(feature = "live")]
            Command::Run(args) => with_config(args.config.as_deref(), |config| {
                let log = log(config.log_level);
                if run::run(config, &args, &log) { OK } else { FAILED }
            }),
            Command::Attempts(args) => with_config(args.which.config.as_deref(), |config| {
                asked(|output| ask::attempts::run(&args, config, output))
            }),
            Command::Who(args) => {
                with_config(args.which.config.as_deref(), |config| asked(|output| ask::who::run(&args, config, output)))
            }
            Command::Status(args) => with_config(args.which.config.as_deref(), |config| {
                let mut well = true;
                let asked = asked(|output| ask::status::run(&args, config, output).map(|is| well = is));
                if well { asked } else { FAILED }
            }),
            Command::Replay(args) => replay::main(&args),
            Command::Check(args) => match check::check(&args, &ProcessEnv, &mut io::stdout()) {
                Ok(checked) => checked as u8,
                Err(error) => printed(Err(error)),
            },
            #[cfg(target_os = "linux")]
            Command::Doctor(args) => with_config(args.config.as_deref(), |config| {
                let options = probe_options(config);
                let agent = doctor::names::Agent::gather(config.agent.socket.as_deref());
                let names = doctor::names::Names { api: doctor::names::api(config), agent };
                printed(doctor::run(&args, &options, &names, &*self_test(config, &options), &mut io::stdout()))
            }),
            Command::Causes => printed(write!(io::stdout(), "{}", causes::markdown()).map(|()| true)),
            Command::Schema(args) => printed(schema::run(&args, &mut io::stdout())),
            #[cfg(target_os = "linux")]
            Command::Clean(args) => with_config(args.config.as_deref(), |config| {
                printed(clean::run(&args, &probe_options(config), &mut io::stdout()))
            }),
        }
        .into()
    }
}

/// Carries out a question to the agent, and says why where there is no answer.
fn asked(question: impl FnOnce(&mut ask::Output<'_>) -> Result<(), ask::Error>) -> u8 {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut output = ask::Output {
        out: &mut out,
        remarks: &mut io::stderr(),
        colour: crate::deliver::console::colours(&io::stdout()),
    };
    let result = question(&mut output);
    let flushed = out.flush();
    match result.and_then(|()| flushed.map_err(ask::Error::Write)) {
        Ok(()) => OK,
        Err(ask::Error::Write(error)) => printed(Err(error)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            FAILED
        }
    }
}

/// Loads the configuration for a command that rests on it; what is wrong with it goes to standard error.
fn with_config(path: Option<&Path>, command: impl FnOnce(&Config) -> u8) -> u8 {
    match Config::load(path, &ProcessEnv) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            command(&loaded.config)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            WRONG
        }
    }
}

#[cfg(target_os = "linux")]
fn probe_options(config: &Config) -> probe::Options {
    probe::Options { cgroup: config.capture.cgroup.clone() }
}

#[cfg(feature = "live")]
fn self_test(config: &Config, options: &probe::Options) -> Box<dyn doctor::SelfTest> {
    let capture = stages::capture(config);
    Box::new(doctor::ByConnection { options: options.clone(), start: move || selftest::start(capture.clone()) })
}

#[cfg(all(target_os = "linux", not(feature = "live")))]
fn self_test(_: &Config, _: &probe::Options) -> Box<dyn doctor::SelfTest> {
    Box::new(doctor::NoCapture)
}

/// The exit status of a command that prints its result.
fn printed(result: io::Result<bool>) -> u8 {
    match result {
        Ok(true) => OK,
        Ok(false) => FAILED,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            FAILED
        }
    }
}

/// Logs to standard error, by RUST_LOG if it is set, else by the configuration. Of what is logged the agent's own lines
/// can be sent to exporters too, by the handle.
fn log(level: LogLevel) -> own::log::Handle {
    // At each try kube says anew what the watch says once.
    let quiet = match level {
        LogLevel::Debug | LogLevel::Trace => "",
        _ => ",kube_client=off,kube_runtime=off,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{}{quiet}", level.as_str())));
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .with_filter(filter.and(filter_fn(|callsite| callsite.name() != own::SAID_AT_EACH_TRY)));
    let (sent, handle) = own::log::layer(level);
    tracing_subscriber::registry().with(sent).with(lines).init();
    handle
}
