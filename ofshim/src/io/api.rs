//! The HTTP interface on the controller's socket: what runs, read only.
//!
//! `GET /v1/status`, `/v1/topology`, `/v1/hosts`, `/v1/flows`, `/v1/route?from=&to=&k=`,
//! `/v1/explain?from=&to=&protocol=&src_port=&dst_port=&vlan=`; the values are those of [`crate::core::view`].

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::run::Input;
use crate::core::net::explain::{Asked as Flow, End};

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
    /// `/v1/route`
    Route {
        /// Where it starts.
        from: End,
        /// Where it ends.
        to: End,
        /// How many ways.
        k: usize,
    },
    /// `/v1/explain`
    Explain(Flow),
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// Takes the answer, or why there is none.
    pub answer: oneshot::Sender<Result<serde_json::Value, String>>,
}

/// Serves the socket, until the main task ends.
pub async fn run(listener: UnixListener, inputs: mpsc::Sender<Input>) {
    let route = |question| get(move |State(inputs): State<mpsc::Sender<Input>>| answer(question, inputs));
    let router = Router::new()
        .route("/v1/status", route(Question::Status))
        .route("/v1/topology", route(Question::Topology))
        .route("/v1/hosts", route(Question::Hosts))
        .route("/v1/flows", route(Question::Flows))
        .route("/v1/route", get(route_to))
        .route("/v1/explain", get(explain))
        .with_state(inputs);
    if let Err(error) = serve(listener, router).await {
        tracing::warn!("the controller's socket is not served any more: {error}");
    }
}

#[derive(Deserialize)]
struct RouteQuery {
    from: String,
    to: String,
    k: Option<usize>,
}

async fn route_to(State(inputs): State<mpsc::Sender<Input>>, Query(query): Query<RouteQuery>) -> Response {
    match ends(&query.from, &query.to) {
        Ok((from, to)) => answer(Question::Route { from, to, k: query.k.unwrap_or(1) }, inputs).await,
        Err(told) => (StatusCode::BAD_REQUEST, told).into_response(),
    }
}

#[derive(Deserialize)]
struct ExplainQuery {
    from: String,
    to: String,
    protocol: Option<u8>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
    vlan: Option<u16>,
}

/// ICMP, the protocol of a question that names none.
const ICMP: u8 = 1;

async fn explain(State(inputs): State<mpsc::Sender<Input>>, Query(query): Query<ExplainQuery>) -> Response {
    match ends(&query.from, &query.to) {
        Ok((from, to)) => {
            let ports = query.src_port.zip(query.dst_port);
            let protocol = query.protocol.unwrap_or(ICMP);
            answer(Question::Explain(Flow { from, to, vlan: query.vlan, protocol, ports }), inputs).await
        }
        Err(told) => (StatusCode::BAD_REQUEST, told).into_response(),
    }
}

fn ends(from: &str, to: &str) -> Result<(End, End), String> {
    Ok((from.parse()?, to.parse()?))
}

async fn answer(question: Question, inputs: mpsc::Sender<Input>) -> Response {
    let (answer, answered) = oneshot::channel();
    if inputs.send(Input::Asked(Asked { question, answer })).await.is_ok()
        && let Ok(answered) = answered.await
    {
        return match answered {
            Ok(value) => Json(value).into_response(),
            Err(told) => (StatusCode::BAD_REQUEST, told).into_response(),
        };
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the controller is stopping").into_response()
}
