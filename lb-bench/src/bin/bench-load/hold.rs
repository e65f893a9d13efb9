//! Connections that stay: each asks the same again and again, and must be answered by the backend that it began with.
//! Meanwhile somebody else changes the pool.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_bench::poll::{Interest, Poll, monotonic_ns};
use lb_bench::protocol::{HOLD_ANSWER_BYTES, NAME_BYTES, Name, QUESTION_BYTES, Task, shown};
use serde_json::{Value, json};

use crate::outcome::{Failure, Failures, Times, failures_json};
use crate::sources::{Sources, abort};

/// What is held, and for how long.
pub struct Hold<'a> {
    /// Servers, each in its turn.
    pub to: &'a [SocketAddr],
    /// Connections.
    pub flows: u32,
    /// Connections opened in a second.
    pub open_rate: f64,
    /// From one question of a connection to its next.
    pub interval: Duration,
    /// A question without an answer for so long breaks its connection.
    pub patience: Duration,
    /// How long they are held when all are open.
    pub time: Duration,
}

/// A connection that lives.
struct Flow {
    stream: TcpStream,
    established: bool,
    /// Who answered first.
    backend: Option<Name>,
    /// Number of the question that is not answered yet, and when it was asked.
    asked: Option<(u64, u64)>,
    next_question: u64,
    answer: [u8; HOLD_ANSWER_BYTES],
    got: usize,
}

/// Opens the connections, calls `opened` when all are there, holds them, and says what became of them.
pub fn run(
    hold: &Hold<'_>,
    sources: &mut Sources,
    opened: impl FnOnce(&Value) -> Result<()>,
) -> Result<Value> {
    let mut run = Run {
        hold,
        poll: Poll::new()?,
        flows: Vec::new(),
        questions: VecDeque::new(),
        patience: VecDeque::new(),
        book: Book::new(),
    };
    run.open_all(sources)?;
    let value = json!({
        "opened": run.flows.iter().flatten().count(),
        "not_opened": failures_json(&run.book.not_opened),
        "at_ns": monotonic_ns(),
    });
    run.book.all_open = true;
    opened(&value)?;
    let end_ns = monotonic_ns() + nanoseconds(hold.time);
    while monotonic_ns() < end_ns {
        run.turn(Some(end_ns))?;
    }
    Ok(run.finish(&value))
}

/// What is told at the end.
struct Book {
    all_open: bool,
    not_opened: Failures,
    broken: Failures,
    broken_at: Vec<(u64, Failure)>,
    answers: u64,
    times: Times,
}

impl Book {
    fn new() -> Self {
        Self {
            all_open: false,
            not_opened: Failures::new(),
            broken: Failures::new(),
            broken_at: Vec::new(),
            answers: 0,
            times: Times::new(),
        }
    }

    fn broke(&mut self, failure: Failure) {
        if self.all_open {
            *self.broken.entry(failure).or_default() += 1;
            self.broken_at.push((monotonic_ns(), failure));
        } else {
            *self.not_opened.entry(failure).or_default() += 1;
        }
    }
}

struct Run<'a> {
    hold: &'a Hold<'a>,
    poll: Poll,
    /// By token; broken ones are gone.
    flows: Vec<Option<Flow>>,
    /// When which flow asks next; in order, since all have the same interval.
    questions: VecDeque<(u64, usize)>,
    /// When the patience with which question of which flow ends; in order, too.
    patience: VecDeque<(u64, usize, u64)>,
    book: Book,
}

impl Run<'_> {
    /// Opens one flow after the other, and waits until each was answered once or has failed.
    fn open_all(&mut self, sources: &mut Sources) -> Result<()> {
        let distance_ns = 1e9 / self.hold.open_rate;
        let begin_ns = monotonic_ns();
        for number in 0..self.hold.flows {
            let due_ns = begin_ns + (f64::from(number) * distance_ns) as u64;
            while monotonic_ns() < due_ns {
                self.turn(Some(due_ns))?;
            }
            self.open(number, sources)?;
        }
        while self.flows.iter().flatten().any(|flow| flow.backend.is_none()) {
            self.turn(None)?;
        }
        Ok(())
    }

    fn open(&mut self, number: u32, sources: &mut Sources) -> Result<()> {
        let to = self.hold.to[number as usize % self.hold.to.len()];
        let stream = match sources.connect(to) {
            Ok(stream) => stream,
            Err(error) => {
                self.book.broke(Failure::of(&error, false));
                return Ok(());
            }
        };
        let token = self.flows.len();
        self.poll.add(&stream, Interest::Connection, token as u64).context("cannot wait for a connection")?;
        let now_ns = monotonic_ns();
        // The first question goes out with the connection's first byte.
        self.flows.push(Some(Flow {
            stream,
            established: false,
            backend: None,
            asked: Some((0, now_ns)),
            next_question: 1,
            answer: [0; HOLD_ANSWER_BYTES],
            got: 0,
        }));
        self.patience.push_back((now_ns + nanoseconds(self.hold.patience), token, 0));
        self.questions.push_back((now_ns + nanoseconds(self.hold.interval), token));
        Ok(())
    }

    /// Asks what is due, gives up what has waited too long, and takes what comes until `until_ns` at the latest.
    fn turn(&mut self, until_ns: Option<u64>) -> Result<()> {
        self.ask_due();
        self.give_up();
        let next = [self.questions.front().map(|q| q.0), self.patience.front().map(|p| p.0), until_ns];
        let next_ns = next.into_iter().flatten().min();
        let limit = next_ns.map(|at| Duration::from_nanos(at.saturating_sub(monotonic_ns())));
        let mut tokens = Vec::new();
        self.poll.wait(limit, &mut tokens)?;
        for token in tokens {
            let at = token as usize;
            let Some(flow) = &mut self.flows[at] else { continue };
            if let Err(failure) = go_on(flow, &mut self.book) {
                self.end(at, failure);
            }
        }
        Ok(())
    }

    fn ask_due(&mut self) {
        let now_ns = monotonic_ns();
        while let Some((_, at)) = self.questions.pop_front_if(|(due, _)| *due <= now_ns) {
            let Some(flow) = &mut self.flows[at] else { continue };
            self.questions.push_back((now_ns + nanoseconds(self.hold.interval), at));
            // One question at a time: its patience runs.
            if flow.asked.is_some() {
                continue;
            }
            let question = flow.next_question;
            flow.next_question += 1;
            flow.asked = Some((question, now_ns));
            self.patience.push_back((now_ns + nanoseconds(self.hold.patience), at, question));
            if let Err(error) = flow.stream.write_all(&question.to_be_bytes()) {
                self.end(at, Failure::of(&error, true));
            }
        }
    }

    fn give_up(&mut self) {
        let now_ns = monotonic_ns();
        while let Some((_, at, question)) = self.patience.pop_front_if(|(end, ..)| *end <= now_ns) {
            let waits =
                self.flows[at].as_ref().is_some_and(|flow| flow.asked.is_some_and(|(q, _)| q == question));
            if waits {
                self.end(at, Failure::Timeout);
            }
        }
    }

    fn end(&mut self, at: usize, failure: Failure) {
        if let Some(flow) = self.flows[at].take() {
            self.book.broke(failure);
            abort(flow.stream);
        }
    }

    fn finish(self, opened: &Value) -> Value {
        let mut backends: BTreeMap<String, u64> = BTreeMap::new();
        let mut held = 0u64;
        for flow in self.flows.into_iter().flatten() {
            held += 1;
            if let Some(name) = &flow.backend {
                *backends.entry(shown(name)).or_default() += 1;
            }
            abort(flow.stream);
        }
        let book = self.book;
        let broken_at: Vec<Value> = book.broken_at.iter().map(|(at, why)| json!([at, why.word()])).collect();
        json!({
            "opened": opened["opened"],
            "not_opened": opened["not_opened"],
            "held": held,
            "broken": broken_at.len(),
            "failures": failures_json(&book.broken),
            "broken_at": broken_at,
            "answers": book.answers,
            "p50_us": book.times.quantile_us(0.5),
            "p99_us": book.times.quantile_us(0.99),
            "backends": backends,
        })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Something happened on a flow.
fn go_on(flow: &mut Flow, book: &mut Book) -> Result<(), Failure> {
    if !flow.established {
        match flow.stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(Failure::of(&error, false)),
        }
        let mut first = [0; 1 + QUESTION_BYTES];
        first[0] = Task::Hold as u8;
        flow.stream.write_all(&first).map_err(|error| Failure::of(&error, true))?;
        flow.established = true;
    }
    loop {
        match flow.stream.read(&mut flow.answer[flow.got..]) {
            Ok(0) => return Err(Failure::Short),
            Ok(count) => flow.got += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::of(&error, true)),
        }
        if flow.got == HOLD_ANSWER_BYTES {
            flow.got = 0;
            answered(flow, book)?;
        }
    }
}

/// Compares a whole answer with what was asked.
fn answered(flow: &mut Flow, book: &mut Book) -> Result<(), Failure> {
    let Some((question, asked_ns)) = flow.asked.take() else { return Err(Failure::Wrong) };
    let (name, echo) = flow.answer.split_at(NAME_BYTES);
    if echo != question.to_be_bytes() {
        return Err(Failure::Wrong);
    }
    let mut from = Name::default();
    from.copy_from_slice(name);
    if *flow.backend.get_or_insert(from) != from {
        return Err(Failure::Moved);
    }
    book.answers += 1;
    book.times.add(monotonic_ns() - asked_ns);
    Ok(())
}
