//! The HTTP interface on the controller's socket: what runs, and orders about backends. What may be asked is in [`super::endpoints`], the
//! values are those of [`crate::core::view`].

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, serve};
use serde_json::Value;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use super::endpoints::{Answer, ENDPOINTS, Endpoint, Fields, Question};
use super::run::Input;

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
    if let Err(error) = serve(listener, router(&|_| true).with_state(inputs)).await {
        tracing::warn!("the controller's socket is not served any more: {error}");
    }
}

/// Serves the metrics and nothing else, to whoever reaches `listener`, until the main task ends.
pub async fn run_metrics(listener: TcpListener, inputs: Inputs) {
    let router = router(&|endpoint| matches!(endpoint.answer, Answer::Text(_)));
    if let Err(error) = serve(listener, router.with_state(inputs)).await {
        tracing::warn!("the metrics are not served any more: {error}");
    }
}

/// Serves those endpoints that `which` names.
fn router(which: &dyn Fn(&Endpoint) -> bool) -> Router<Inputs> {
    let served = || ENDPOINTS.iter().filter(|endpoint| which(endpoint));
    let of =
        |changes| served().filter(move |endpoint| endpoint.changes == changes).map(|endpoint| endpoint.path);
    let posts: String = of(true).map(|path| format!("; POST {path}")).collect();
    let unknown = format!("no such path; there are GET {}{posts}", of(false).collect::<Vec<_>>().join(", "));
    let router =
        served().fold(Router::new(), |router, endpoint| router.route(endpoint.path, handler(endpoint)));
    router.fallback(async move || (StatusCode::NOT_FOUND, unknown.clone()))
}

fn handler(endpoint: &'static Endpoint) -> MethodRouter<Inputs> {
    let method = if endpoint.changes { post } else { get };
    method(async move |State(inputs): State<Inputs>, Query(fields): Query<Fields>| {
        match endpoint.question(&fields) {
            Ok(question) => answer(endpoint, question, &inputs).await,
            Err(told) => (StatusCode::BAD_REQUEST, told).into_response(),
        }
    })
}

/// Asks the main task.
async fn answer(endpoint: &Endpoint, question: Question, inputs: &Inputs) -> Response {
    let (answer, answered) = oneshot::channel();
    if inputs.send(Input::Asked(Asked { question, answer })).await.is_ok()
        && let Ok(answered) = answered.await
    {
        return match (answered, endpoint.answer) {
            (Ok(Value::String(text)), Answer::Text(kind)) => ([(CONTENT_TYPE, kind)], text).into_response(),
            (Ok(value), _) => Json(value).into_response(),
            (Err(told), _) => (StatusCode::BAD_REQUEST, told).into_response(),
        };
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the controller is stopping").into_response()
}
