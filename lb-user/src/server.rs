//! The daemon's socket: HTTP over a unix socket, as the table in [`crate::api`] says.

use std::future::Future;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Connections, Detached, ErrorBody, Stats, Status};
use crate::failure::{Failure, one_line};

/// The socket's name in the run directory.
pub const SOCKET: &str = "lb.sock";
/// Connections that are listed if the request does not say how many.
const DEFAULT_LIMIT: usize = crate::cli::CONNECTIONS;
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(9);
/// Bytes that a request's body may have; none is needed.
const MAX_BODY: usize = 4096;

/// Where an answer goes; `Err` is one line for the user.
pub type Reply<T> = oneshot::Sender<Result<T, String>>;

/// A question to the daemon.
#[derive(Debug)]
pub enum Query {
    /// Its state.
    Status(Reply<Status>),
    /// The counters.
    Stats(Reply<Stats>),
    /// Tracked connections.
    Connections {
        /// List this many at most.
        limit: usize,
        /// Only those of the VIP of this name.
        vip: Option<String>,
        /// Only those of this backend.
        backend: Option<IpAddr>,
        /// Where the answer goes.
        reply: Reply<Connections>,
    },
    /// Undo everything and end.
    Detach(Reply<Detached>),
}

/// The path of the socket.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET)
}

/// Makes the run directory, for its owner alone, unless it is there.
///
/// # Errors
/// It cannot be made, or something else has its name; exit status 2.
pub fn make_run_dir(run_dir: &Path) -> Result<(), Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::wrong(format!("--run-dir {}: {why}; name another folder", run_dir.display()))
    };
    match std::fs::metadata(run_dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(refuse(&"is not a folder")),
        Err(_) => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(run_dir)
            .map_err(|error| refuse(&format!("cannot be made: {error}"))),
    }
}

/// Listens on the socket in `run_dir`, for its owner alone. A socket on which nobody answers is replaced; whoever
/// calls this holds the daemon's lock, so nobody is about to listen on it either. Needs a tokio runtime around it.
///
/// # Errors
/// A daemon answers there, something else has the socket's name, or the folder cannot be written to; exit status 2.
pub fn bind(run_dir: &Path) -> Result<UnixListener, Failure> {
    make_run_dir(run_dir)?;
    let path = socket_path(run_dir);
    let refuse = |why: String| Failure::wrong(format!("{}: {why}", path.display()));
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(refuse("is not a socket; remove it, or name another folder with --run-dir".into()));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(&path).is_ok() => {
            return Err(refuse("a daemon answers there already; end it with 'lb detach' or SIGTERM".into()));
        }
        Ok(_) => std::fs::remove_file(&path)
            .map_err(|error| refuse(format!("a stale socket that cannot be removed: {error}")))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(refuse(format!("cannot be looked at: {error}"))),
    }
    let listener = UnixListener::bind(&path)
        .map_err(|error| refuse(format!("cannot be made: {error}; name another folder with --run-dir")))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| refuse(format!("cannot be kept from others: {error}")))?;
    Ok(listener)
}

/// Removes the socket of a daemon that ends.
pub fn remove_socket(run_dir: &Path) {
    let path = socket_path(run_dir);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}

/// Answers requests by asking `queries`, until `shutdown` is there and open requests are answered.
pub async fn serve(
    listener: UnixListener,
    queries: mpsc::Sender<Query>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = axum::serve(listener, router(queries)).with_graceful_shutdown(shutdown).await {
        tracing::error!("the socket's server ended: {error}");
    }
}

fn router(queries: mpsc::Sender<Query>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stats", get(stats))
        .route("/v1/connections", get(connections))
        .route("/v1/detach", post(detach))
        .fallback(async || {
            let known = "GET /v1/status, /v1/stats, /v1/connections and POST /v1/detach are known";
            Refusal(StatusCode::NOT_FOUND, format!("no such path; {known}"))
        })
        .method_not_allowed_fallback(async || {
            let message = "method not allowed; /v1/detach takes POST, everything else GET";
            Refusal(StatusCode::METHOD_NOT_ALLOWED, message.to_owned())
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(queries)
}

/// A request that cannot be met.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: one_line(&self.1) })).into_response()
    }
}

type Queries = State<mpsc::Sender<Query>>;

async fn status(State(queries): Queries, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    bounded(body)?;
    ask(&queries, Query::Status).await
}

async fn stats(State(queries): Queries, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    bounded(body)?;
    ask(&queries, Query::Stats).await
}

async fn detach(State(queries): Queries, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    bounded(body)?;
    ask(&queries, Query::Detach).await
}

/// The filter of `GET /v1/connections`, as it came.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    limit: Option<String>,
    vip: Option<String>,
    backend: Option<String>,
}

async fn connections(
    State(queries): Queries,
    filter: Result<UrlQuery<Filter>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    bounded(body)?;
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let UrlQuery(filter) = filter.map_err(|error| bad(error.body_text()))?;
    let limit = filter.limit.map_or(Ok(DEFAULT_LIMIT), |text| {
        text.parse().map_err(|_| bad(format!("limit={text}: not a number; give one, as in limit=100")))
    })?;
    let backend = filter.backend.map(|text| {
        text.parse()
            .map_err(|_| bad(format!("backend={text}: not an address; give one, as in backend=10.0.0.1")))
    });
    let backend = backend.transpose()?;
    ask(&queries, |reply| Query::Connections { limit, vip: filter.vip, backend, reply }).await
}

/// No request needs a body; a large one is refused rather than read.
fn bounded(body: Result<Bytes, BytesRejection>) -> Result<(), Refusal> {
    body.map(drop).map_err(|error| Refusal(error.status(), error.body_text()))
}

async fn ask<T: Serialize>(
    queries: &mpsc::Sender<Query>,
    query: impl FnOnce(Reply<T>) -> Query,
) -> Result<Response, Refusal> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        queries.send(query(reply)).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(Ok(answer))) => Ok(Json(answer).into_response()),
        Ok(Some(Err(message))) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, message)),
        Ok(None) => Err(Refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is ending; start it again with 'lb run'".into(),
        )),
        Err(_) => {
            let message = format!("the daemon did not answer within {} s; ask again", PATIENCE.as_secs());
            Err(Refusal(StatusCode::GATEWAY_TIMEOUT, message))
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
