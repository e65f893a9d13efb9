//! Connections at the times of a schedule, whatever becomes of those before: an open loop. Waiting, in the network, at the
//! server, or for this program's own turn, is part of how long an answer took, since all time counts from when it was due.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use lb_bench::poll::{Interest, Poll, monotonic_ns};
use lb_bench::protocol::{ANSWER_BYTES, NAME_BYTES, Task, shown};

use crate::outcome::{Failure, Outcome};
use crate::schedule::Schedule;
use crate::sources::{Sources, abort};

/// Connections that are begun before the answers are looked at again.
const BATCH: usize = 16;

/// What connections go to, and how.
pub struct Load<'a> {
    /// Servers, each in its turn.
    pub to: &'a [SocketAddr],
    /// A connection without an answer for so long has failed.
    pub patience: Duration,
    /// Connections that may be open at once.
    pub most_open: usize,
}

/// A connection on its way.
struct Open {
    stream: TcpStream,
    due_ns: u64,
    established: bool,
    /// Bytes of the answer that are there.
    got: usize,
    name: [u8; NAME_BYTES],
}

/// Offers the connections of `schedule` and waits for what becomes of them.
pub fn offer(load: &Load<'_>, schedule: Schedule, sources: &mut Sources) -> Result<Outcome> {
    let mut schedule = schedule.peekable();
    let mut run = Run {
        load,
        poll: Poll::new()?,
        slots: Vec::new(),
        free: Vec::new(),
        expiry: VecDeque::new(),
        outcome: Outcome::new(),
        begin_ns: monotonic_ns(),
    };
    let mut tokens = Vec::new();
    loop {
        for _ in 0..BATCH {
            let now = run.since_begin_ns();
            let Some(due_ns) = schedule.next_if(|due_ns| *due_ns <= now) else { break };
            run.start(due_ns, now, sources);
        }
        run.expire();
        if schedule.peek().is_none() && run.open() == 0 {
            return Ok(run.outcome);
        }
        let next_ns = [schedule.peek().copied(), run.next_expiry_ns()].into_iter().flatten().min();
        let limit = next_ns.map(|at| Duration::from_nanos(at.saturating_sub(run.since_begin_ns())));
        tokens.clear();
        run.poll.wait(limit, &mut tokens)?;
        for token in &tokens {
            run.go_on(*token);
        }
    }
}

struct Run<'a> {
    load: &'a Load<'a>,
    poll: Poll,
    /// Open connections; a slot is used again, so tokens carry the number of its use.
    slots: Vec<(u32, Option<Open>)>,
    free: Vec<usize>,
    /// Tokens in the order in which their patience ends.
    expiry: VecDeque<(u64, u64)>,
    outcome: Outcome,
    begin_ns: u64,
}

impl Run<'_> {
    fn since_begin_ns(&self) -> u64 {
        monotonic_ns() - self.begin_ns
    }

    fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn start(&mut self, due_ns: u64, now_ns: u64, sources: &mut Sources) {
        let to = self.load.to[self.outcome.offered as usize % self.load.to.len()];
        self.outcome.offered += 1;
        self.outcome.delays.add(now_ns - due_ns);
        if self.open() >= self.load.most_open {
            return self.fail(Failure::TooManyOpen, due_ns);
        }
        let stream = match sources.connect(to) {
            Ok(stream) => stream,
            Err(error) => return self.fail(Failure::of(&error, false), due_ns),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        let token = u64::from(self.slots[slot].0) << 32 | slot as u64;
        if let Err(error) = self.poll.add(&stream, Interest::Connection, token) {
            self.free.push(slot);
            return self.fail(Failure::of(&error, false), due_ns);
        }
        self.slots[slot].1 = Some(Open { stream, due_ns, established: false, got: 0, name: [0; NAME_BYTES] });
        self.expiry.push_back((due_ns + self.load.patience.as_nanos() as u64, token));
        self.outcome.most_open = self.outcome.most_open.max(self.open());
    }

    fn fail(&mut self, failure: Failure, due_ns: u64) {
        *self.outcome.failures.entry(failure).or_default() += 1;
        let due_ns = self.begin_ns + due_ns;
        self.outcome.last_failed_ns = self.outcome.last_failed_ns.max(Some(due_ns));
    }

    fn take(&mut self, token: u64) -> Option<Open> {
        let slot = (token & 0xffff_ffff) as usize;
        let (uses, open) = &mut self.slots[slot];
        if u64::from(*uses) != token >> 32 {
            return None;
        }
        let open = open.take()?;
        *uses = uses.wrapping_add(1);
        self.free.push(slot);
        Some(open)
    }

    /// Gives up what has waited too long.
    fn expire(&mut self) {
        let now = self.since_begin_ns();
        while let Some((_, token)) = self.expiry.pop_front_if(|(at, _)| *at <= now) {
            if let Some(open) = self.take(token) {
                // All of the answer is there, only the server's end is not: that is no failure.
                if open.got < ANSWER_BYTES {
                    self.fail(Failure::Timeout, open.due_ns);
                }
                abort(open.stream);
            }
        }
    }

    fn next_expiry_ns(&mut self) -> Option<u64> {
        while let Some((at, token)) = self.expiry.front().copied() {
            let (uses, open) = &self.slots[(token & 0xffff_ffff) as usize];
            if u64::from(*uses) == token >> 32 && open.is_some() {
                return Some(at);
            }
            self.expiry.pop_front();
        }
        None
    }

    /// Something happened on a connection.
    fn go_on(&mut self, token: u64) {
        let now_ns = self.since_begin_ns();
        let (uses, open) = &mut self.slots[(token & 0xffff_ffff) as usize];
        let Some(open) = open.as_mut().filter(|_| u64::from(*uses) == token >> 32) else { return };
        if !open.established {
            if let Err(failure) = ask(open) {
                self.end(token, failure);
            }
            return;
        }
        let was_complete = open.got == ANSWER_BYTES;
        let end = read(open);
        if !was_complete && open.got == ANSWER_BYTES {
            self.outcome.completed += 1;
            self.outcome.times.add(now_ns - open.due_ns);
            self.outcome.until_last_ns = now_ns;
            *self.outcome.backends.entry(shown(&open.name)).or_default() += 1;
        }
        match end {
            Ok(Stream::Open) => {}
            Ok(Stream::Ended) => self.end(token, Failure::Short),
            Err(failure) => self.end(token, failure),
        }
    }

    /// A connection is over, which is a failure unless the answer is there.
    fn end(&mut self, token: u64, failure: Failure) {
        if let Some(open) = self.take(token).filter(|open| open.got < ANSWER_BYTES) {
            self.fail(failure, open.due_ns);
        }
    }
}

/// Whether a server may say more.
enum Stream {
    Open,
    Ended,
}

/// Asks, on a connection that is established or has failed.
fn ask(open: &mut Open) -> Result<(), Failure> {
    match open.stream.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return Err(Failure::of(&error, false)),
    }
    match open.stream.write(&[Task::Request as u8]) {
        Ok(_) => open.established = true,
        // Nothing but the wish to be told.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(Failure::of(&error, true)),
    }
    Ok(())
}

/// Takes what is there of the answer.
fn read(open: &mut Open) -> Result<Stream, Failure> {
    let mut bytes = [0; ANSWER_BYTES + 1];
    loop {
        match open.stream.read(&mut bytes) {
            Ok(0) => return Ok(Stream::Ended),
            Ok(count) => {
                let name = open.name.iter_mut().skip(open.got);
                name.zip(&bytes[..count]).for_each(|(to, from)| *to = *from);
                open.got += count;
                if open.got > ANSWER_BYTES {
                    return Err(Failure::Wrong);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Stream::Open),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::of(&error, true)),
        }
    }
}
