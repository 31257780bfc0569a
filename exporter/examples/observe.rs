//! Prints what live capture sees, a line each: `observe [--clsact] [CGROUP]`. For development; needs root.

use std::path::PathBuf;

use synspan::capture::live::{AttachMode, Capture, Options, Sink};
use synspan::capture::observation::{Mono, Observation};

struct Print {
    first: Option<Mono>,
}

impl Sink for Print {
    fn observations(&mut self, batch: &[Observation]) {
        for observation in batch {
            let first = *self.first.get_or_insert(observation.time);
            println!("{:>9.3} ms {:?}", observation.time.since(first).as_secs_f64() * 1e3, observation.what);
        }
    }

    fn tick(&mut self, _: Mono) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    let mut options = Options::default();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--clsact" => options.attach = AttachMode::Clsact,
            path => options.cgroup = Some(PathBuf::from(path)),
        }
    }
    let (capture, features) = Capture::start(options, Print { first: None })?;
    eprintln!("{features:#?}");
    // Until the other end of standard input is closed.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    eprintln!("{:#?}", capture.counters());
    capture.stop();
    Ok(())
}
