//! The servers' side: one thread that names itself in every answer, for thousands of connections.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_bench::poll::{Interest, Poll};
use lb_bench::protocol::{self, HOLD_ANSWER_BYTES, NAME_BYTES, Name, QUESTION_BYTES, Task};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 65_535;
/// Connections that are accepted before those that are there are looked at again.
const BATCH: usize = 64;
/// The listener's token; connections have those from 1 on.
const LISTENER: u64 = 0;

/// A socket that listens.
pub fn listen(at: SocketAddr) -> Result<TcpListener> {
    let socket =
        Socket::new(Domain::for_address(at), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&at.into())
        .and_then(|()| socket.listen(BACKLOG))
        .with_context(|| format!("cannot listen on {at}"))?;
    Ok(socket.into())
}

/// Serves until it is ended from outside.
pub fn run(listener: &TcpListener, name: &Name) -> Result<()> {
    let mut poll = Poll::new()?;
    poll.add(listener, Interest::Read, LISTENER)?;
    let mut server =
        Server { name, answer: protocol::answer(name), clients: HashMap::new(), next: LISTENER + 1 };
    let mut tokens = Vec::new();
    loop {
        tokens.clear();
        poll.wait(None, &mut tokens)?;
        for token in &tokens {
            if *token == LISTENER {
                server.accept(listener, &poll)?;
            } else {
                server.serve(*token);
            }
        }
    }
}

struct Server<'a> {
    name: &'a Name,
    answer: [u8; protocol::ANSWER_BYTES],
    clients: HashMap<u64, Client>,
    next: u64,
}

/// A client that has not said all yet.
struct Client {
    stream: TcpStream,
    task: Option<Task>,
    question: [u8; QUESTION_BYTES],
    got: usize,
}

impl Server<'_> {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        for _ in 0..BATCH {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // A client that went at once, or no descriptor left: the others are served on.
                Err(error) if is_passing(&error) => {
                    std::thread::sleep(Duration::from_millis(1));
                    return Ok(());
                }
                Err(error) => return Err(error).context("cannot accept connections"),
            };
            stream.set_nonblocking(true)?;
            let mut client = Client { stream, task: None, question: [0; QUESTION_BYTES], got: 0 };
            // Often the question is there already, and then nothing has to be remembered.
            if client.go_on(self.name, &self.answer).is_ok_and(|more| more) {
                let token = self.next;
                self.next += 1;
                poll.add(&client.stream, Interest::Connection, token)?;
                // What came between the reading and the adding.
                if client.go_on(self.name, &self.answer).is_ok_and(|more| more) {
                    self.clients.insert(token, client);
                }
            }
        }
        Ok(())
    }

    fn serve(&mut self, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        // A client that breaks off counts its own failure.
        if !client.go_on(self.name, &self.answer).is_ok_and(|more| more) {
            self.clients.remove(&token);
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl Client {
    /// Reads what is there and answers; says whether more may come.
    fn go_on(&mut self, name: &Name, answer: &[u8]) -> io::Result<bool> {
        loop {
            let mut byte = [0];
            let to = if self.task.is_none() { &mut byte[..] } else { &mut self.question[self.got..] };
            let count = match self.stream.read(to) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.task.is_none() {
                match Task::of(byte[0]) {
                    Some(Task::Request) => return self.stream.write_all(answer).map(|()| false),
                    Some(Task::Hold) => self.task = Some(Task::Hold),
                    // Not served here.
                    Some(Task::Bulk) | None => return Ok(false),
                }
                continue;
            }
            self.got += count;
            if self.got == QUESTION_BYTES {
                let mut bytes = [0; HOLD_ANSWER_BYTES];
                bytes[..NAME_BYTES].copy_from_slice(name);
                bytes[NAME_BYTES..].copy_from_slice(&self.question);
                self.stream.write_all(&bytes)?;
                self.got = 0;
            }
        }
    }
}
