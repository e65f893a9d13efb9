//! Asks the daemon: one HTTP request over its unix socket.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::{Connections, Detached, ErrorBody, Stats, Status};
use crate::conns::Fields;
use crate::failure::{Failure, one_line};
use crate::server::socket_path;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;

/// Why the daemon did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// None is there.
    NoDaemon(Failure),
    /// It is there, or may be, and the question failed.
    Failed(Failure),
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoDaemon(failure) | AskError::Failed(failure) => failure,
        }
    }
}

/// Asks for the daemon's state.
///
/// # Errors
/// No daemon, no right to ask it, or no answer in time.
pub async fn status(run_dir: &Path) -> Result<Status, AskError> {
    ask(run_dir, Method::GET, "/v1/status").await
}

/// Asks for the counters.
///
/// # Errors
/// As [`status`].
pub async fn stats(run_dir: &Path) -> Result<Stats, AskError> {
    ask(run_dir, Method::GET, "/v1/stats").await
}

/// Asks for connections.
///
/// # Errors
/// As [`status`]; also an unknown VIP or backend.
pub async fn connections(run_dir: &Path, fields: &Fields) -> Result<Connections, AskError> {
    let Fields { limit, page, after, vip, backend, client, state, protocol } = fields;
    let all = [
        ("limit", limit),
        ("page", page),
        ("after", after),
        ("vip", vip),
        ("backend", backend),
        ("client", client),
        ("state", state),
        ("protocol", protocol),
    ];
    let mut path = "/v1/connections".to_owned();
    for (name, value) in all {
        let Some(value) = value else { continue };
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&format!("{name}={}", escaped(value)));
    }
    ask(run_dir, Method::GET, &path).await
}

/// Makes the daemon undo everything and end.
///
/// # Errors
/// As [`status`].
pub async fn detach(run_dir: &Path) -> Result<Detached, AskError> {
    ask(run_dir, Method::POST, "/v1/detach").await
}

/// Percent-encodes everything but letters and digits.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

pub(crate) async fn ask<T: DeserializeOwned>(
    run_dir: &Path,
    method: Method,
    path: &str,
) -> Result<T, AskError> {
    ask_with(run_dir, method, path, Bytes::new(), ANSWER).await
}

/// The same with a body, and another patience.
pub(crate) async fn ask_with<T: DeserializeOwned>(
    run_dir: &Path,
    method: Method,
    path: &str,
    body: Bytes,
    patience: Duration,
) -> Result<T, AskError> {
    let socket = socket_path(run_dir);
    let shown = socket.display();
    let stream = match timeout(CONNECT, UnixStream::connect(&socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&socket, &error)),
        Err(_) => {
            let message = format!("the daemon on {shown} takes no connection within {} s", CONNECT.as_secs());
            return Err(AskError::Failed(Failure::at_work(message)));
        }
    };
    match timeout(patience, exchange(stream, method, path, body)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Refusal::Question(message))) => Err(AskError::Failed(Failure::wrong(message))),
        Ok(Err(Refusal::Answer(message))) => {
            Err(AskError::Failed(Failure::at_work(format!("the daemon on {shown}: {message}"))))
        }
        Err(_) => {
            let message = format!("the daemon on {shown} gave no answer within {} s", patience.as_secs());
            Err(AskError::Failed(Failure::at_work(message)))
        }
    }
}

fn unreachable(socket: &Path, error: &std::io::Error) -> AskError {
    let shown = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
            AskError::NoDaemon(Failure::wrong(format!(
                "no daemon answers on {shown}: start one with 'lb run' (or name its directory with --run-dir)"
            )))
        }
        ErrorKind::PermissionDenied => AskError::Failed(Failure::wrong(format!(
            "no right to ask the daemon on {shown}: it answers root alone, run this with sudo"
        ))),
        _ => AskError::Failed(Failure::wrong(format!(
            "the daemon on {shown} cannot be asked: {error}; name its directory with --run-dir"
        ))),
    }
}

/// Why an exchange gave no answer.
pub(crate) enum Refusal {
    /// The daemon says that the question is wrong.
    Question(String),
    /// Something else.
    Answer(String),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Answer(message)
    }
}

/// One request and its answer.
pub(crate) async fn exchange<T: DeserializeOwned>(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<T, Refusal> {
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "lb")
        .header(hyper::header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|error| format!("the request cannot be made: {error}"))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok::<_, String>((status, body))
    };
    // Its end, good or bad, is what the request's own result tells.
    let driver = tokio::spawn(connection);
    let answer = asked.await;
    driver.abort();
    let (status, body) = answer?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| Refusal::Answer(format!("an answer of another version: {error}")));
    }
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) if status == StatusCode::BAD_REQUEST => Err(Refusal::Question(body.error)),
        Ok(body) => Err(body.error.into()),
        // The controller refuses in plain words.
        Err(_) if status == StatusCode::BAD_REQUEST && !body.is_empty() => {
            Err(Refusal::Question(one_line(&String::from_utf8_lossy(&body))))
        }
        Err(_) => Err(format!("refused with status {status}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("10.0.1.1:80/tcp"), "10%2E0%2E1%2E1%3A80%2Ftcp");
        assert_eq!(escaped("a&b"), "a%26b");
    }

    #[tokio::test]
    async fn no_daemon_is_said_with_the_mend() {
        let failure = Failure::from(status(Path::new("/nonexistent/lb")).await.unwrap_err());
        let expected = "no daemon answers on /nonexistent/lb/lb.sock: start one with 'lb run' \
                        (or name its directory with --run-dir)";
        assert_eq!((failure.message.as_str(), failure.status), (expected, 2));
    }

    #[test]
    fn missing_rights_are_said() {
        let AskError::Failed(failure) =
            unreachable(Path::new("/r/lb.sock"), &ErrorKind::PermissionDenied.into())
        else {
            panic!("no daemon")
        };
        assert!(failure.message.contains("run this with sudo"), "{failure}");
    }
}
