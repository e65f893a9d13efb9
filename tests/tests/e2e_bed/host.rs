//! What runs on hosts: servers that say who answered, and clients.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::net::{Net, address};
use super::raw::enter;

const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a download: a pattern in which a lost, doubled or moved piece shows.
pub fn body(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(4)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// A server in a host's namespace, which ends with this.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// HTTP: `/` names the host and the client's address, `/paced/N` is [`body`] of N bytes
    /// at about 5 MB/s.
    pub fn http(net: &Net, number: u32, port: u16) -> Self {
        Self::http_at(net, number, &format!("0.0.0.0:{port}"))
    }

    /// The same at an address of the host's.
    pub fn http_at(net: &Net, number: u32, at: &str) -> Self {
        Self::tcp(net, number, at, move |stream| http(&stream, number))
    }

    /// TCP: every line comes back with the host's number in front.
    pub fn lines(net: &Net, number: u32, port: u16) -> Self {
        Self::tcp(net, number, &format!("0.0.0.0:{port}"), move |stream| {
            let Ok(mut writer) = stream.try_clone() else { return };
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if writer.write_all(format!("{number} {line}\n").as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    fn tcp(net: &Net, number: u32, at: &str, serve: impl Fn(TcpStream) + Send + Clone + 'static) -> Self {
        let at = at.to_owned();
        Self::start(net, number, move |stop| {
            let listener = TcpListener::bind(&at).unwrap_or_else(|error| panic!("{at}: {error}"));
            listener.set_nonblocking(true).expect("nonblocking");
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let serve = serve.clone();
                            let _ = stream.set_nonblocking(false);
                            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                            std::thread::spawn(move || serve(stream));
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            }
        })
    }

    /// UDP: every datagram is answered with the host's number and its content.
    pub fn udp(net: &Net, number: u32, port: u16) -> Self {
        Self::udp_at(net, number, &format!("0.0.0.0:{port}"))
    }

    /// UDP at an address of the host's, which is where the answers come from.
    pub fn udp_at(net: &Net, number: u32, at: &str) -> Self {
        let at = at.to_owned();
        Self::start(net, number, move |stop| {
            let socket = UdpSocket::bind(&at).unwrap_or_else(|error| panic!("{at}: {error}"));
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    let answer = [format!("{number} ").as_bytes(), &buffer[..length]].concat();
                    let _ = socket.send_to(&answer, from);
                }
            }
        })
    }

    /// `open` makes the socket in the namespace, what it returns serves; the server is open when this returns.
    fn start<F: FnOnce()>(
        net: &Net,
        number: u32,
        open: impl FnOnce(Arc<AtomicBool>) -> F + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ns, seen) = (net.ns(number), Arc::clone(&stop));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter(&ns);
            let serve = open(seen);
            ready.send(()).unwrap();
            serve();
        });
        is_ready.recv().expect("a server that starts");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn http(stream: &TcpStream, number: u32) {
    let client = stream.peer_addr().map_or_else(|e| e.to_string(), |address| address.ip().to_string());
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    // The rest of the request's head: unread bytes would make closing the socket a reset.
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("/");
    let content = match path.strip_prefix("/paced/").and_then(|length| length.parse().ok()) {
        Some(length) => body(length),
        None => format!("h{number} {client}").into_bytes(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    let mut stream = stream;
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    for piece in content.chunks(100_000) {
        if stream.write_all(piece).is_err() {
            return;
        }
        if content.len() > piece.len() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A curl on a host, without a proxy.
pub fn curl_command(net: &Net, number: u32, url: &str, more: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &net.ns(number), "curl", "-sS", "--noproxy", "*", "--max-time", "20"]);
    command.args(["--connect-timeout", "3"]).args(more).arg(url).stdin(Stdio::null());
    command
}

/// What a server answered, or curl's complaint.
pub fn curl(net: &Net, number: u32, url: &str) -> Result<String, String> {
    let done = curl_command(net, number, url, &[]).output().expect("curl; `cargo xtask setup` installs it");
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
    }
}

/// A datagram from a new port; the answer.
pub fn echo_udp(net: &Net, number: u32, to: &str, text: &str) -> Result<String, String> {
    let ns = net.ns(number);
    let ask = || -> std::io::Result<String> {
        enter(&ns);
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(to)?;
        socket.send(text.as_bytes())?;
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    std::thread::scope(|scope| scope.spawn(ask).join().unwrap()).map_err(|e| e.to_string())
}

/// A TCP connection from a host, line by line.
pub struct Talk {
    reader: BufReader<TcpStream>,
}

/// Connects a host to a [`Server::lines`].
pub fn talk(net: &Net, number: u32, to: &str) -> Talk {
    let (ns, to) = (net.ns(number), to.parse::<SocketAddr>().unwrap());
    let connect = || {
        enter(&ns);
        TcpStream::connect_timeout(&to, PATIENCE)
    };
    let stream = std::thread::scope(|scope| scope.spawn(connect).join().unwrap());
    let stream = stream.unwrap_or_else(|error| panic!("{to}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Talk { reader: BufReader::new(stream) }
}

impl Talk {
    /// Sends a line and reads the answer.
    pub fn say(&mut self, line: &str) -> std::io::Result<String> {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        match self.reader.read_line(&mut answer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.trim_end().to_owned()),
        }
    }
}

/// A connection of the calling thread's namespace: a line there, one back, and closed.
pub fn one_line(to: &str, line: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&to.parse::<SocketAddr>().unwrap(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Talk { reader: BufReader::new(stream) }.say(line)
}
