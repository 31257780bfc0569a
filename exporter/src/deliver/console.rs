//! The console: a tree for each attempt that failed, came late or reused a port, and a line each ten
//! seconds that sums up the rest.

mod story;
mod summary;
pub(crate) mod text;
mod tree;

use std::io::{self, ErrorKind, Write};

use crate::capture::observation::Mono;
use crate::encode::{Priority, priority};
use crate::identify::describe::Described;
use crate::track::attempt::InboundSummary;
use summary::Summary;
use text::Paint;

/// How the console shows attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shows every attempt, not only those that failed, came late or reused a port.
    pub all: bool,
    /// Uses colours (ANSI escape sequences).
    pub colour: bool,
}

/// Whether to colour what goes there.
pub(crate) fn colours(out: &impl io::IsTerminal) -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    out.is_terminal() && !plain
}

/// Writes attempts for people.
pub struct Console<W> {
    out: W,
    all: bool,
    paint: Paint,
    summary: Summary,
    closed: bool,
}

impl Console<io::Stdout> {
    /// The standard output, coloured if it is a terminal and neither `NO_COLOR` (no-color.org) nor
    /// `TERM=dumb` is set.
    pub fn stdout(all: bool) -> Self {
        let out = io::stdout();
        let colour = colours(&out);
        Self::new(out, Options { all, colour })
    }
}

impl<W: Write> Console<W> {
    /// A console that writes to `out`.
    pub fn new(out: W, options: Options) -> Self {
        let paint = Paint::new(options.colour);
        Self { out, all: options.all, paint, summary: Summary::default(), closed: false }
    }

    /// Shows an attempt, or counts it for the next summary.
    ///
    /// # Errors
    /// What writing gave; a reader that went away (EPIPE) is none, see [`Self::is_closed`].
    pub fn attempt(&mut self, described: &Described) -> io::Result<()> {
        let shown = self.all || priority(&described.attempt) == Priority::Failure;
        self.summary.count(&described.attempt, shown);
        if shown { self.write(&tree::render(described, self.paint)) } else { Ok(()) }
    }

    /// Shows inbound SYNs that came to nothing.
    ///
    /// # Errors
    /// As for [`Self::attempt`].
    pub fn inbound(&mut self, summary: &InboundSummary) -> io::Result<()> {
        let InboundSummary { listener, syns, .. } = summary;
        let over = text::duration(summary.until.since(summary.from));
        self.write(&format!("{syns} SYNs from outside to {listener} came to nothing in {over}: a flood, or a scan\n"))
    }

    /// Tells the time: each ten seconds a line sums up what came since the last one, if anything did.
    ///
    /// # Errors
    /// As for [`Self::attempt`].
    pub fn tick(&mut self, now: Mono) -> io::Result<()> {
        match self.summary.due(now) {
            Some(line) => self.write(&format!("{}\n", self.paint.dim(&line))),
            None => Ok(()),
        }
    }

    /// Sums up what came since the last line: to be called at the end.
    ///
    /// # Errors
    /// As for [`Self::attempt`].
    pub fn finish(&mut self) -> io::Result<()> {
        match self.summary.rest() {
            Some(line) => self.write(&format!("{}\n", self.paint.dim(&line))),
            None => Ok(()),
        }
    }

    /// Sums up all that came, under a heading of the caller's: for what is no stream of time.
    ///
    /// # Errors
    /// As for [`Self::attempt`].
    pub fn finish_with(&mut self, heading: &str) -> io::Result<()> {
        match self.summary.all(heading) {
            Some(line) => self.write(&format!("{}\n", self.paint.dim(&line))),
            None => Ok(()),
        }
    }

    /// Whether the reader went away: nothing is written any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
