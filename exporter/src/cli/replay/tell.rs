//! Where findings go: the console or JSON, and the exporters of a configuration.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::{Args, Error, json};
use crate::cli::{exporters, stages};
use crate::config::Config;
use crate::deliver::console::Console;
use crate::deliver::{Delivery, Parcel};
use crate::encode::spans::Encoder;
use crate::identify::chain::Identities;
use crate::identify::clock::WallClock;
use crate::identify::describe::Describer;
use crate::identify::node::Node;
use crate::identify::static_list::StaticList;
use crate::track::attempt::{Attempt, Finding};

/// Spans that may wait: reading is faster than sending, and nothing is to be dropped for it.
const WAITING: u64 = 4_096;
/// How long a backend may take nothing before what is left is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked again whether there is room.
const GLANCE: Duration = Duration::from_millis(5);

enum Output {
    Console(Console<Stdout>),
    Json(BufWriter<Stdout>),
}

struct Sending {
    runtime: Runtime,
    delivery: Delivery,
    encoder: Encoder,
    offered: u64,
    given_up: bool,
}

/// Everything after the tracker.
pub struct Teller {
    describer: Describer,
    output: Output,
    sending: Option<Sending>,
    closed: bool,
}

impl Teller {
    /// Builds the stages. Only a configuration that was asked for sends anything.
    pub fn new(config: &Config, args: &Args) -> Result<Self, Error> {
        let node = Node::new(&stages::node_name(config), false, &config.resource_attributes);
        // Cgroups and processes are this machine's, and captures are anybody's.
        let fixed = StaticList::new(&stages::static_list(config), &node, None);
        let describer =
            Describer::new(Identities::new(vec![Arc::new(fixed)]), None, &node, config.tracking.max_tenancies);
        let output = match args.json {
            true => Output::Json(BufWriter::new(io::stdout())),
            false => Output::Console(Console::stdout(args.all)),
        };
        let options = exporters::delivery_options(config);
        let sending = if args.config.is_some() && !options.exporters.is_empty() {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::System)?;
            let delivery = Delivery::start(options, runtime.handle())?;
            let encoder = Encoder::new(stages::encode(config, node.name(), stages::covered(config), true));
            Some(Sending { runtime, delivery, encoder, offered: 0, given_up: false })
        } else {
            None
        };
        Ok(Self { describer, output, sending, closed: false })
    }

    /// Whether the reader of the output has gone, and nothing else is to be done.
    pub fn is_closed(&self) -> bool {
        self.closed && self.sending.is_none()
    }

    /// Tells a finding.
    pub fn tell(&mut self, finding: Finding) -> Result<(), Error> {
        match finding {
            Finding::Attempt(attempt) => self.attempt(attempt),
            Finding::Inbound(summary) => match &mut self.output {
                Output::Console(console) => console.inbound(&summary).map_err(Error::Write),
                Output::Json(_) => Ok(()),
            },
            // Sockets alone tell of them.
            Finding::Flow(_) | Finding::Stalled(_) => Ok(()),
        }
    }

    fn attempt(&mut self, attempt: Box<Attempt>) -> Result<(), Error> {
        let described = self.describer.describe_now(attempt, WallClock::fixed(0));
        match &mut self.output {
            Output::Console(console) => {
                console.attempt(&described).map_err(Error::Write)?;
                self.closed = console.is_closed();
            }
            Output::Json(_) if self.closed => {}
            Output::Json(out) => {
                let written = serde_json::to_writer(&mut *out, &json::attempt(&described))
                    .map_err(io::Error::from)
                    .and_then(|()| out.write_all(b"\n"));
                self.closed = unless_gone(written)?;
            }
        }
        if let Some(sending) = &mut self.sending {
            let due = stages::due(&described.attempt);
            let facts = sending.encoder.facts(&described);
            sending.offer(stages::spans(due, sending.encoder.spans(&described, &facts, None)));
            let record = sending.encoder.record(&described, &facts, true);
            sending.offer(stages::records(due, record));
        }
        Ok(())
    }

    /// Sums up, and sends what waits; the files cover `span`.
    pub fn finish(&mut self, span: Duration) -> Result<(), Error> {
        match &mut self.output {
            Output::Console(console) => {
                console.finish_with(&format!("in {:.1} s of capture", span.as_secs_f64())).map_err(Error::Write)?;
            }
            Output::Json(_) if self.closed => {}
            Output::Json(out) => self.closed = unless_gone(out.flush())?,
        }
        if let Some(sending) = &self.sending {
            sending.runtime.block_on(sending.delivery.shutdown(PATIENCE));
        }
        Ok(())
    }

    /// Spans that were not taken by a backend.
    pub fn unsent(&self) -> u64 {
        let counters = self.sending.as_ref().map(|sending| sending.delivery.counters()).unwrap_or_default();
        counters.iter().map(|snapshot| snapshot.counters.dropped_in_all()).sum()
    }
}

impl Sending {
    /// Hands a parcel over once there is room.
    fn offer(&mut self, parcel: Parcel) {
        // Looking takes a lock and copies, so not each time.
        self.offered += 1;
        if self.offered.is_multiple_of(64) && !self.given_up {
            self.wait();
        }
        self.delivery.offer(parcel);
    }

    fn wait(&mut self) {
        let mut since = Instant::now();
        let mut before = u64::MAX;
        loop {
            let counters = self.delivery.counters();
            let waiting = counters.iter().map(|of| of.counters.queued + of.counters.in_flight).max().unwrap_or(0);
            if waiting < WAITING {
                return;
            }
            if waiting < before {
                (before, since) = (waiting, Instant::now());
            } else if since.elapsed() > PATIENCE {
                self.given_up = true;
                return;
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Whether the reader went away, which is no error.
fn unless_gone(result: io::Result<()>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Error::Write(error)),
    }
}
