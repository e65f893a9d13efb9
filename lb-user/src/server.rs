//! The daemon's socket: HTTP over a unix socket, as the table in [`crate::api`] says.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
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
use lb_core::host::handover::Told;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use crate::api::{Connections, Detached, ErrorBody, Stats, Status};
use crate::conns::{self, Wanted};
use crate::control::{self, Ask};
use crate::failure::{Failure, one_line};
use crate::metrics;

/// The socket's name in the run directory.
pub const SOCKET: &str = "lb.sock";
/// How long the daemon may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(9);
/// Bytes that a request's body may have; none is needed.
const MAX_BODY: usize = 4096;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Denied>>;

/// Why a question is not answered, in one line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The question is wrong: it names what is not there, for instance.
    Wrong(String),
    /// The question is right, and answering it failed.
    Failed(String),
}

impl From<anyhow::Error> for Denied {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// A question to the daemon.
#[derive(Debug)]
pub enum Query {
    /// Its state.
    Status(Reply<Status>),
    /// The counters.
    Stats(Reply<Stats>),
    /// All that another balancer has to know, with the connections or without.
    Handover(bool, Reply<Told>),
    /// Tracked connections.
    Connections(Box<Wanted>, Reply<Connections>),
    /// Change something.
    Order(Ask),
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

/// Listens for scrapers on a TCP address.
///
/// # Errors
/// The address is not this machine's, or in use; exit status 2.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::wrong(format!("--metrics {address}: cannot listen there: {error}; name another address"))
    })
}

/// Serves `/metrics` and nothing else, to whoever reaches `listener`, until the runtime ends.
pub async fn serve_metrics(listener: TcpListener, queries: mpsc::Sender<Query>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "no such path; GET /metrics is known".to_owned()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(queries);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("the server of /metrics ended: {error}");
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
        .route("/v1/handover", get(handover))
        .route("/metrics", get(metrics))
        .route("/v1/detach", post(detach))
        .merge(control::server::routes())
        .fallback(async || {
            let known = "GET /v1/status, /v1/stats, /v1/connections, /v1/handover, /metrics, POST /v1/detach";
            let message = format!("no such path; known are {known} and {}", control::server::PATHS);
            Refusal(StatusCode::NOT_FOUND, message)
        })
        .method_not_allowed_fallback(async || {
            let message = "method not allowed; questions take GET; /v1/detach and orders take POST";
            Refusal(StatusCode::METHOD_NOT_ALLOWED, message.to_owned())
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(queries)
}

/// A request that cannot be met.
pub(crate) struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: one_line(&self.1) })).into_response()
    }
}

pub(crate) type Queries = State<mpsc::Sender<Query>>;

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

async fn connections(
    State(queries): Queries,
    wanted: Result<UrlQuery<conns::Fields>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    bounded(body)?;
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let UrlQuery(fields) = wanted.map_err(|error| bad(error.body_text()))?;
    let wanted = fields.read().map_err(bad)?;
    ask(&queries, |reply| Query::Connections(Box::new(wanted), reply)).await
}

/// The fields of a question for the state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandoverFields {
    #[serde(default)]
    connections: bool,
}

/// What a controller has to know that may have to balance in the daemon's place.
async fn handover(
    State(queries): Queries,
    fields: Result<UrlQuery<HandoverFields>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    bounded(body)?;
    let UrlQuery(fields) = fields.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    ask(&queries, |reply| Query::Handover(fields.connections, reply)).await
}

/// The counters as Prometheus reads them.
async fn metrics(State(queries): Queries, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    bounded(body)?;
    let (status, stats) = (put(&queries, Query::Status).await?, put(&queries, Query::Stats).await?);
    let kind = [(axum::http::header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    Ok((kind, metrics::text(&status, &stats)).into_response())
}

/// No request needs a body; a large one is refused rather than read.
fn bounded(body: Result<Bytes, BytesRejection>) -> Result<(), Refusal> {
    body.map(drop).map_err(|error| Refusal(error.status(), error.body_text()))
}

/// Gives an order, with so much patience.
pub(crate) async fn ask_order<T: Serialize>(
    queries: &mpsc::Sender<Query>,
    patience: Duration,
    order: impl FnOnce(Reply<T>) -> Ask,
) -> Result<Response, Refusal> {
    put_within(queries, |reply| Query::Order(order(reply)), patience)
        .await
        .map(|answer| Json(answer).into_response())
}

async fn ask<T: Serialize>(
    queries: &mpsc::Sender<Query>,
    query: impl FnOnce(Reply<T>) -> Query,
) -> Result<Response, Refusal> {
    put(queries, query).await.map(|answer| Json(answer).into_response())
}

/// Puts a question to the daemon and waits for its answer.
async fn put<T>(queries: &mpsc::Sender<Query>, query: impl FnOnce(Reply<T>) -> Query) -> Result<T, Refusal> {
    put_within(queries, query, PATIENCE).await
}

/// The same with another patience.
async fn put_within<T>(
    queries: &mpsc::Sender<Query>,
    query: impl FnOnce(Reply<T>) -> Query,
    patience: Duration,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        queries.send(query(reply)).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(Some(Ok(answer))) => Ok(answer),
        Ok(Some(Err(Denied::Wrong(message)))) => Err(Refusal(StatusCode::BAD_REQUEST, message)),
        Ok(Some(Err(Denied::Failed(message)))) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, message)),
        Ok(None) => Err(Refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is ending; start it again with 'lb run'".into(),
        )),
        Err(_) => {
            let message = format!("the daemon did not answer within {} s; ask again", patience.as_secs());
            Err(Refusal(StatusCode::GATEWAY_TIMEOUT, message))
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
