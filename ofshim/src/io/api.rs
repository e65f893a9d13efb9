//! The HTTP interface on the controller's socket: what runs, orders about backends, and those of the balancer's daemon. What
//! may be asked and ordered is in [`super::endpoints`], the values are those of [`crate::core::view`].

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, serve};
use serde_json::Value;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use super::endpoints::{Answer, DAEMON_ORDERS, DaemonOrder, ENDPOINTS, Endpoint, Fields, Question};
use super::run::Input;

/// The longest body of an order: a hand-over of about 300,000 connections.
const MAX_BODY_BYTES: usize = 64 << 20;

type Inputs = mpsc::Sender<Input>;

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// Takes the answer, or why there is none.
    pub answer: oneshot::Sender<Result<Value, String>>,
}

/// Serves the socket, until the main task ends.
pub async fn run(listener: UnixListener, inputs: Inputs) {
    let router = DAEMON_ORDERS.iter().fold(router(&|_| true, &DAEMON_ORDERS), |router, order| {
        router.route(order.path, order_handler(order))
    });
    if let Err(error) = serve(listener, router.with_state(inputs)).await {
        tracing::warn!("the controller's socket is not served any more: {error}");
    }
}

/// Serves the metrics and nothing else, to whoever reaches `listener`, until the main task ends.
pub async fn run_metrics(listener: TcpListener, inputs: Inputs) {
    let router = router(&|endpoint| matches!(endpoint.answer, Answer::Text(_)), &[]);
    if let Err(error) = serve(listener, router.with_state(inputs)).await {
        tracing::warn!("the metrics are not served any more: {error}");
    }
}

/// Serves those endpoints that `which` names; the orders are named beside them to whoever mistypes a path.
fn router(which: &dyn Fn(&Endpoint) -> bool, orders: &[DaemonOrder]) -> Router<Inputs> {
    let served = || ENDPOINTS.iter().filter(|endpoint| which(endpoint));
    let of =
        |changes| served().filter(move |endpoint| endpoint.changes == changes).map(|endpoint| endpoint.path);
    let posts = of(true).chain(orders.iter().map(|order| order.path));
    let posts: String = posts.map(|path| format!("; POST {path}")).collect();
    let unknown = format!("no such path; there are GET {}{posts}", of(false).collect::<Vec<_>>().join(", "));
    let router =
        served().fold(Router::new(), |router, endpoint| router.route(endpoint.path, handler(endpoint)));
    router.fallback(async move || (StatusCode::NOT_FOUND, unknown.clone()))
}

fn handler(endpoint: &'static Endpoint) -> MethodRouter<Inputs> {
    let method = if endpoint.changes { post } else { get };
    method(async move |State(inputs): State<Inputs>, Query(fields): Query<Fields>| {
        match endpoint.question(&fields) {
            Ok(question) => answer(endpoint.answer, question, &inputs).await,
            Err(told) => (StatusCode::BAD_REQUEST, told).into_response(),
        }
    })
}

fn order_handler(order: &'static DaemonOrder) -> MethodRouter<Inputs> {
    let handler = async move |State(inputs): State<Inputs>, body: Result<Bytes, BytesRejection>| {
        let order = match &body {
            Ok(body) => order.order(body),
            Err(refused) => Err(format!("{}; at most {MAX_BODY_BYTES} bytes are taken", refused.body_text())),
        };
        match order {
            Ok(order) => answer(Answer::Document, order, &inputs).await,
            Err(told) => (StatusCode::BAD_REQUEST, told).into_response(),
        }
    };
    post(handler).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// Asks the main task.
async fn answer(kind: Answer, question: Question, inputs: &Inputs) -> Response {
    let (answer, answered) = oneshot::channel();
    if inputs.send(Input::Asked(Asked { question, answer })).await.is_ok()
        && let Ok(answered) = answered.await
    {
        return match (answered, kind) {
            (Ok(Value::String(text)), Answer::Text(kind)) => ([(CONTENT_TYPE, kind)], text).into_response(),
            (Ok(value), _) => Json(value).into_response(),
            (Err(told), _) => (StatusCode::BAD_REQUEST, told).into_response(),
        };
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the controller is stopping").into_response()
}
