//! A tenancy: the time for which one connection owns a wire tuple, and the numbers it leaves behind.

use super::flow::FlowSide;
use super::ledger::SharedProcess;
use super::seq::{self, MAX_WINDOW};
use super::trace_id::TraceId;
use super::verdict::{ClosedBy, ServerState};
use crate::capture::observation::{Mono, SocketNumbers, TcpState};
use crate::capture::tuple::{Endpoint, Tuple};

/// Names a tenancy while the ledger remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenancyKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// One connection's hold on a tuple. Tuples run from client to server.
#[derive(Clone, Debug)]
pub struct Tenancy {
    /// Serial of the attempt that opened it.
    pub serial: u64,
    /// Where that attempt is kept for as long as it is open. Its serial tells whether it still is.
    pub(super) slot: u32,
    /// Its trace.
    pub trace: TraceId,
    /// The client's own tuple.
    pub inner: Tuple,
    /// The tuple at the node's outward interface, if it was seen.
    pub wire: Option<Tuple>,
    /// The client's process, if it is of this node.
    pub process: Option<SharedProcess>,
    /// The client's network namespace, 0 if not known.
    pub netns: u64,
    /// The client's socket, 0 if it is not of this node.
    pub cookie: u64,
    /// The server's socket, 0 if it is not of this node.
    pub server_cookie: u64,
    /// When it was established.
    pub opened: Mono,
    /// When it ended: the first socket of this node that closed, both FINs, or a RST.
    pub closed: Option<Mono>,
    /// Which end closed first.
    pub closed_by: ClosedBy,
    /// Where the client's data ended, without a FIN; final once `closed`.
    pub client_end: u32,
    /// The last acknowledgement by the server that is known.
    pub client_acked: u32,
    /// Where the server's data ended, without a FIN.
    pub server_end: u32,
    /// The largest window seen, scaled.
    pub window: u32,
    /// Window scales of client and server.
    pub scales: [u8; 2],
    /// The client's stream was seen to its end (a FIN, a RST, or the socket's own numbers).
    pub end_known: bool,
    /// Its numbers were asked for while it was open.
    pub asked: bool,
    /// The client sent a FIN.
    pub client_fin: bool,
    /// The server sent a FIN.
    pub server_fin: bool,
    /// What it carries is not told: the attempt that opened it is not either.
    pub quiet: bool,
}

impl Tenancy {
    /// The tuple that it is filed under: the wire's, else the client's own.
    pub fn tuple(&self) -> Tuple {
        self.wire.unwrap_or(self.inner)
    }

    /// Whether NAT changed the tuple on its way out.
    pub fn is_translated(&self) -> bool {
        self.wire.is_some_and(|wire| wire != self.inner)
    }

    /// Whose socket has a cookie, of the two that are known.
    pub fn side_of(&self, cookie: u64) -> FlowSide {
        if self.server_cookie == cookie { FlowSide::Server } else { FlowSide::Client }
    }

    /// Both ends said goodbye.
    pub fn ended_cleanly(&self) -> bool {
        self.client_fin && self.server_fin
    }

    /// Destination and number it is filed under, once its end is known.
    pub fn end_key(&self) -> Option<(Endpoint, u32)> {
        self.end_known.then_some((self.tuple().dst, self.client_end))
    }

    /// Whether the server, holding this connection, acknowledges by exactly `number`: all the client's
    /// data, with its FIN or without (the FIN may have been what was lost).
    pub fn ended_at(&self, number: u32) -> bool {
        self.end_known && (number == self.client_end || (self.client_fin && number == self.client_end.wrapping_add(1)))
    }

    /// Whether the server, holding this connection while it is open, acknowledges by exactly `number`: all that it
    /// has acknowledged, or all that the client has sent.
    pub fn stands_at(&self, number: u32) -> bool {
        self.asked && !self.end_known && (number == self.client_acked || number == self.client_end)
    }

    /// Whether `number` lies within the largest window around the server's last known acknowledgement.
    pub fn near(&self, number: u32) -> bool {
        seq::within(number, self.client_acked, self.window.min(MAX_WINDOW))
    }

    /// In which state the server holds the connection, judged by an acknowledgement that it sent
    /// after the end.
    pub fn server_state(&self, ack: u32) -> ServerState {
        if !self.end_known {
            ServerState::Unknown
        } else if self.client_fin && ack == self.client_end.wrapping_add(1) {
            if self.server_fin { ServerState::Remembered } else { ServerState::NeverClosed }
        } else if ack == self.client_end || self.near(ack) {
            // The server never got the FIN, or not all the data before it.
            ServerState::CutOff
        } else {
            ServerState::Unknown
        }
    }

    /// Takes in a FIN or RST from the client.
    pub fn client_segment(&mut self, time: Mono, seq: u32, payload: u32, fin: bool, rst: bool) {
        let end = seq.wrapping_add(payload);
        if !seq::within(end, self.client_end, 1 << 30) {
            return;
        }
        if fin {
            self.client_fin = true;
            self.client_end = end;
            self.end_known = true;
            self.first_close(ClosedBy::Client);
            if self.server_fin {
                self.close(time);
            }
        } else if rst {
            // A RST's number is the next one to be sent: after a FIN it stands one behind the data.
            if !self.client_fin && !self.end_known {
                self.client_end = seq;
                self.end_known = true;
            }
            self.first_close(ClosedBy::Reset);
            self.close(time);
        }
    }

    /// Takes in a FIN or RST from the server.
    pub fn server_segment(&mut self, time: Mono, seq: u32, ack: Option<u32>, payload: u32, fin: bool, rst: bool) {
        if let Some(ack) = ack.filter(|&ack| seq::within(ack, self.client_acked, 1 << 30)) {
            self.client_acked = seq::later(ack, self.client_acked);
        }
        if fin {
            self.server_fin = true;
            self.server_end = seq.wrapping_add(payload);
            self.first_close(ClosedBy::Server);
            if self.client_fin {
                self.close(time);
            }
        } else if rst {
            self.first_close(ClosedBy::Reset);
            self.close(time);
        }
    }

    /// Takes in the last state change of a socket of this node. `server` says whose socket it is.
    pub fn socket_state(&mut self, time: Mono, server: bool, from: TcpState, to: TcpState, numbers: &SocketNumbers) {
        let (mine, theirs) =
            if server { (ClosedBy::Server, ClosedBy::Client) } else { (ClosedBy::Client, ClosedBy::Server) };
        match to {
            TcpState::FinWait1 => self.first_close(mine),
            TcpState::CloseWait => self.first_close(theirs),
            TcpState::Close => {
                let sent_fin = matches!(
                    from,
                    TcpState::FinWait1
                        | TcpState::FinWait2
                        | TcpState::Closing
                        | TcpState::LastAck
                        | TcpState::TimeWait
                );
                let got_fin = matches!(from, TcpState::LastAck | TcpState::CloseWait | TcpState::Closing);
                let sent_end = numbers.snd_nxt.wrapping_sub(u32::from(sent_fin));
                if server {
                    self.server_fin |= sent_fin;
                    self.client_fin |= got_fin;
                    self.server_end = sent_end;
                    self.client_end = numbers.rcv_nxt.wrapping_sub(u32::from(self.client_fin));
                    self.client_acked = numbers.rcv_nxt;
                } else {
                    self.client_fin |= sent_fin;
                    self.server_fin |= got_fin;
                    self.client_end = sent_end;
                    self.client_acked = numbers.snd_una;
                    self.server_end = numbers.rcv_nxt.wrapping_sub(u32::from(self.server_fin));
                }
                self.end_known = true;
                if matches!(from, TcpState::Established) {
                    self.first_close(ClosedBy::Reset);
                }
                self.close(time);
            }
            _ => {}
        }
    }

    fn first_close(&mut self, by: ClosedBy) {
        if self.closed_by == ClosedBy::Unknown {
            self.closed_by = by;
        }
    }

    fn close(&mut self, time: Mono) {
        if self.closed.is_none() {
            self.closed = Some(time);
        }
    }
}

#[cfg(test)]
impl Tenancy {
    /// One of the client's own tuple that was opened and of which nothing else is known.
    pub(super) fn just_opened(serial: u64, inner: Tuple, opened: Mono) -> Self {
        Self {
            serial,
            slot: 0,
            trace: TraceId([1; 16]),
            inner,
            wire: None,
            process: None,
            netns: 0,
            cookie: 0,
            server_cookie: 0,
            opened,
            closed: None,
            closed_by: ClosedBy::Unknown,
            client_end: 0,
            client_acked: 0,
            asked: false,
            server_end: 0,
            window: 0,
            scales: [0; 2],
            end_known: false,
            client_fin: false,
            server_fin: false,
            quiet: false,
        }
    }
}
