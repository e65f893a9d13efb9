//! The HTTP of checks: one GET, and as much of its answer as decides.

use std::net::SocketAddr;

use lb_core::host::config::MAX_ANSWER_BYTES;
use lb_core::host::health::Failure;

/// The longest status line that is waited for.
const MAX_STATUS_LINE_BYTES: usize = 1024;

/// The request for `path` of `target`, whose Host field is `host` or the target's address.
pub fn request(path: &str, host: Option<&str>, target: SocketAddr) -> Vec<u8> {
    let host = host
        .map_or_else(|| if target.port() == 80 { bare(target) } else { target.to_string() }, str::to_owned);
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lb-check\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

fn bare(target: SocketAddr) -> String {
    match target {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// An answer while it comes in.
pub struct Answer {
    status: (u16, u16),
    expect: Vec<u8>,
    seen: Vec<u8>,
}

impl Answer {
    /// An answer that is good with a status in this range and, if so, with this text in it.
    pub fn new(status: (u16, u16), expect: Option<&str>) -> Self {
        Self { status, expect: expect.unwrap_or_default().as_bytes().to_vec(), seen: Vec::new() }
    }

    /// Takes in more of it; `Some` when that decides.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Result<(), Failure>> {
        self.seen.extend(bytes);
        match self.code() {
            Some(Ok(code)) if code < self.status.0 || code > self.status.1 => {
                Some(Err(Failure::Status(code)))
            }
            Some(Ok(_)) if super::contains(&self.seen, &self.expect) => Some(Ok(())),
            Some(Ok(_)) => (self.seen.len() > MAX_ANSWER_BYTES).then_some(Err(Failure::NotExpected)),
            Some(Err(failure)) => Some(Err(failure)),
            None => None,
        }
    }

    /// The other end has nothing more to say.
    pub fn end(&self) -> Result<(), Failure> {
        match self.code() {
            Some(Ok(_)) => Err(Failure::NotExpected),
            Some(Err(failure)) => Err(failure),
            None => Err(Failure::Closed),
        }
    }

    /// The code of the status line (RFC 9112, 4), once that is there.
    fn code(&self) -> Option<Result<u16, Failure>> {
        let Some(end) = self.seen.iter().position(|byte| *byte == b'\n') else {
            let hopeless = self.seen.len() > MAX_STATUS_LINE_BYTES || !starts_like_http(&self.seen);
            return hopeless.then_some(Err(Failure::NotHttp));
        };
        let line = self.seen.get(..end).unwrap_or_default();
        let code = std::str::from_utf8(line).ok().and_then(|line| {
            let (version, rest) = line.split_once(' ')?;
            let code = rest.get(..3)?.parse::<u16>().ok()?;
            (version.starts_with("HTTP/1.") && code >= 100).then_some(code)
        });
        Some(code.ok_or(Failure::NotHttp))
    }
}

fn starts_like_http(seen: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    seen.iter().zip(START).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: (u16, u16), expect: Option<&str>, text: &str) -> Vec<Option<Result<(), Failure>>> {
        // In one piece, and byte by byte: the same comes out.
        let whole = Answer::new(status, expect).read(text.as_bytes());
        let mut answer = Answer::new(status, expect);
        let bytewise = text.bytes().find_map(|byte| answer.read(&[byte]));
        assert_eq!(whole, bytewise, "{text:?}");
        vec![whole, Some(answer.end())]
    }

    #[test]
    fn the_status_decides() {
        let ok = "HTTP/1.1 200 OK\r\n";
        assert_eq!(read((200, 399), None, ok)[0], Some(Ok(())));
        assert_eq!(read((200, 399), None, "HTTP/1.0 404 Not Found\r\n")[0], Some(Err(Failure::Status(404))));
        assert_eq!(read((204, 204), None, ok)[0], Some(Err(Failure::Status(200))));
        assert_eq!(read((200, 399), None, "HTTP/1.1 200")[0], None, "not whole yet");
    }

    #[test]
    fn the_text_decides_where_one_is_expected() {
        let text = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\nall is well\n";
        assert_eq!(read((200, 200), Some("is well"), text)[0], Some(Ok(())));
        assert_eq!(read((200, 200), Some("is bad"), text), [None, Some(Err(Failure::NotExpected))]);
        let mut long = Answer::new((200, 200), Some("never"));
        assert_eq!(long.read(text.as_bytes()), None);
        assert_eq!(long.read(&vec![b'x'; MAX_ANSWER_BYTES]), Some(Err(Failure::NotExpected)));
    }

    #[test]
    fn other_protocols_are_told() {
        for text in
            ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/2 200\r\n", "HTTP/1.1 abc\r\n", "HTTP/1.1 1\r\n", "\r\n"]
        {
            assert_eq!(read((100, 599), None, text)[0], Some(Err(Failure::NotHttp)), "{text:?}");
        }
        assert_eq!(Answer::new((200, 200), None).end(), Err(Failure::Closed));
        let endless = format!("HTTP/1.1{}", "x".repeat(2000));
        assert_eq!(Answer::new((200, 200), None).read(endless.as_bytes()), Some(Err(Failure::NotHttp)));
    }

    #[test]
    fn a_request_is_these_bytes() {
        let ask = |host, target: &str| {
            String::from_utf8(request("/health", host, target.parse().expect("an address"))).expect("text")
        };
        assert!(ask(None, "10.0.0.1:80").starts_with("GET /health HTTP/1.1\r\nHost: 10.0.0.1\r\n"));
        assert!(ask(None, "[fd00::1]:80").contains("\r\nHost: [fd00::1]\r\n"));
        assert!(ask(None, "[fd00::1]:8080").contains("\r\nHost: [fd00::1]:8080\r\n"));
        assert!(ask(Some("www.example.org"), "10.0.0.1:80").contains("\r\nHost: www.example.org\r\n"));
        assert!(ask(None, "10.0.0.1:80").ends_with("\r\nConnection: close\r\n\r\n"));
    }
}
