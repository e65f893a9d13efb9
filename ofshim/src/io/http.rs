//! One HTTP request over a unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The longest answer that is read.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nothing accepts connections there.
    #[error("{}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What answers does not speak HTTP, or broke off.
    #[error("{}: {reason}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The question was refused, in these words.
    #[error("{told}")]
    Refused {
        /// What the server said.
        told: String,
    },
    /// The answer is not 200.
    #[error("{}: answered {status}", path.display())]
    Status {
        /// The socket.
        path: PathBuf,
        /// The status.
        status: StatusCode,
    },
    /// The answer did not come in time.
    #[error("{}: no answer within {} ms", path.display(), limit.as_millis())]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long it had.
        limit: Duration,
    },
}

/// `POST target`, without a body, to the server on the unix socket at `path`, within `limit`.
///
/// # Errors
/// As [`get`].
pub async fn post(path: &Path, target: &str, limit: Duration) -> Result<Vec<u8>, HttpError> {
    within(path, Method::POST, target, limit).await
}

/// `GET target` from the server on the unix socket at `path`, within `limit`.
///
/// # Errors
/// No answer with status 200 came in time, or it is longer than 64 MiB.
pub async fn get(path: &Path, target: &str, limit: Duration) -> Result<Vec<u8>, HttpError> {
    within(path, Method::GET, target, limit).await
}

async fn within(path: &Path, method: Method, target: &str, limit: Duration) -> Result<Vec<u8>, HttpError> {
    let late = |_| HttpError::Late { path: path.to_owned(), limit };
    tokio::time::timeout(limit, unlimited(path, method, target)).await.map_err(late)?
}

async fn unlimited(path: &Path, method: Method, target: &str) -> Result<Vec<u8>, HttpError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| HttpError::Connect { path: path.to_owned(), source })?;
    exchange(stream, method, target, path).await
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    target: &str,
    path: &Path,
) -> Result<Vec<u8>, HttpError> {
    let broken = |reason: String| HttpError::Broken { path: path.to_owned(), reason };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.to_string()))?;
    let asked = async move {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let status = answer.status();
        if status != StatusCode::OK && status != StatusCode::BAD_REQUEST {
            return Err(HttpError::Status { path: path.to_owned(), status });
        }
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect();
        let body = body.await.map_err(|error| broken(error.to_string()))?.to_bytes().to_vec();
        if status == StatusCode::BAD_REQUEST {
            return Err(HttpError::Refused { told: String::from_utf8_lossy(&body).into_owned() });
        }
        Ok(body)
    };
    // The connection moves the bytes while the request waits. It ends once the sender is gone, which the request takes
    // along; what went wrong with it, the request is told too.
    let (answer, _) = tokio::join!(asked, connection);
    answer
}
