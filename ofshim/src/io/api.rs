//! The HTTP interface on the controller's socket: what runs, read only.
//!
//! `GET /v1/status`, `/v1/topology`, `/v1/hosts`, `/v1/flows`; the values are those of [`crate::core::view`].

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::run::Input;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/v1/status`
    Status,
    /// `/v1/topology`
    Topology,
    /// `/v1/hosts`
    Hosts,
    /// `/v1/flows`
    Flows,
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// Takes the answer.
    pub answer: oneshot::Sender<serde_json::Value>,
}

/// Serves the socket, until the main task ends.
pub async fn run(listener: UnixListener, inputs: mpsc::Sender<Input>) {
    let route = |question| get(move |State(inputs): State<mpsc::Sender<Input>>| answer(question, inputs));
    let router = Router::new()
        .route("/v1/status", route(Question::Status))
        .route("/v1/topology", route(Question::Topology))
        .route("/v1/hosts", route(Question::Hosts))
        .route("/v1/flows", route(Question::Flows))
        .with_state(inputs);
    if let Err(error) = serve(listener, router).await {
        tracing::warn!("the controller's socket is not served any more: {error}");
    }
}

async fn answer(question: Question, inputs: mpsc::Sender<Input>) -> Response {
    let (answer, answered) = oneshot::channel();
    if inputs.send(Input::Asked(Asked { question, answer })).await.is_ok()
        && let Ok(value) = answered.await
    {
        return Json(value).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the controller is stopping").into_response()
}
