//! What runs on hosts: servers that say who answered, and clients.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::net::Net;
use super::raw::enter;

const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection to [`Server::web_and_lines`] may be silent.
const LONG_SILENCE: Duration = Duration::from_secs(300);

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
        Self::tcp(net, number, vec![at.to_owned()], move |stream| {
            let mut reader = BufReader::new(&stream);
            let mut request = String::new();
            let _ = reader.read_line(&mut request);
            http(reader, &stream, &request, number);
        })
    }

    /// TCP: every line comes back with the host's number in front.
    pub fn lines(net: &Net, number: u32, port: u16) -> Self {
        Self::tcp(net, number, vec![format!("0.0.0.0:{port}")], move |stream| {
            lines(BufReader::new(&stream), &stream, number);
        })
    }

    /// TCP on several ports of `any`, `0.0.0.0` or `::`: a request is answered as by [`Self::http`], other lines as by
    /// [`Self::lines`].
    pub fn web_and_lines(net: &Net, number: u32, any: IpAddr, ports: &[u16]) -> Self {
        let at = ports.iter().map(|port| SocketAddr::new(any, *port).to_string()).collect();
        Self::tcp(net, number, at, move |stream| {
            let _ = stream.set_read_timeout(Some(LONG_SILENCE));
            let mut reader = BufReader::new(&stream);
            let mut first = String::new();
            let _ = reader.read_line(&mut first);
            if first.starts_with("GET ") {
                http(reader, &stream, &first, number);
            } else {
                lines(first.as_bytes().chain(reader), &stream, number);
            }
        })
    }

    fn tcp(
        net: &Net,
        number: u32,
        at: Vec<String>,
        serve: impl Fn(TcpStream) + Send + Clone + 'static,
    ) -> Self {
        Self::start(net, number, move |stop| {
            let listeners: Vec<TcpListener> = at.iter().map(|at| listen(at)).collect();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut accepted = false;
                    for (stream, _) in listeners.iter().filter_map(|listener| listener.accept().ok()) {
                        let serve = serve.clone();
                        let _ = stream.set_nonblocking(false);
                        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                        std::thread::spawn(move || serve(stream));
                        accepted = true;
                    }
                    if !accepted {
                        std::thread::sleep(Duration::from_millis(2));
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

/// A listener that does not wait.
fn listen(at: &str) -> TcpListener {
    let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    listener.set_nonblocking(true).expect("nonblocking");
    listener
}

/// Sends every line back with a number in front, until the client ends.
fn lines(reader: impl BufRead, mut writer: &TcpStream, number: u32) {
    for line in reader.lines().map_while(Result::ok) {
        if writer.write_all(format!("{number} {line}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// Answers a request, whose first line was read.
fn http(reader: impl BufRead, mut stream: &TcpStream, request: &str, number: u32) {
    let client = stream.peer_addr().map_or_else(|e| e.to_string(), |address| address.ip().to_string());
    let mut lines = reader.lines().map_while(Result::ok);
    // The rest of the request's head: unread bytes would make closing the socket a reset.
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("/");
    let content = match path.strip_prefix("/paced/").and_then(|length| length.parse().ok()) {
        Some(length) => body(length),
        None => format!("h{number} {client}").into_bytes(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
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
    echo_udp_flow(net, number, to, text, 1).map(|mut answers| answers.remove(0))
}

/// Datagrams one after the other from one new port; the answers. Only what comes from where they went is one.
pub fn echo_udp_flow(
    net: &Net,
    number: u32,
    to: &str,
    text: &str,
    count: usize,
) -> Result<Vec<String>, String> {
    let (ns, to) = (net.ns(number), to.parse::<SocketAddr>().unwrap());
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let ask = || -> std::io::Result<Vec<String>> {
        enter(&ns);
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(to)?;
        let mut buffer = [0; 2048];
        let one = || -> std::io::Result<String> {
            socket.send(text.as_bytes())?;
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        std::iter::repeat_with(one).take(count).collect()
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
