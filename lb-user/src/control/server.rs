//! The paths of orders.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query as UrlQuery, State};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use lb_core::host::overlay::{self, Order};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::server::{PATIENCE, Queries, Query, Refusal, ask_order};

use super::{Ask, Balancer};

/// The largest XDP object that is taken.
const MAX_OBJECT_BYTES: usize = 32 << 20;
/// The longest time in which an upgrade is verified.
pub const LONGEST_VERIFY: Duration = Duration::from_secs(600);
/// How long an upgrade may take beside that: checking the programs, and counting the flows twice.
pub const UPGRADE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a change of the balancer may take: the controller waits for its switches several times.
pub const MOVE_PATIENCE: Duration = Duration::from_secs(60);

/// What the paths are, for those who mistype one.
pub const PATHS: &str =
    "POST /v1/backend/drain, disable, enable, weight, add, remove, POST /v1/mode, /v1/reload, /v1/upgrade";

/// The routes.
pub fn routes() -> Router<mpsc::Sender<Query>> {
    Router::new()
        .route("/v1/backend/{order}", post(backend))
        .route("/v1/mode", post(change_mode))
        .route("/v1/reload", post(reload))
        .route("/v1/upgrade", post(upgrade).layer(DefaultBodyLimit::max(MAX_OBJECT_BYTES)))
}

/// The parameters of an order about backends, as they came.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendParameters {
    backend: String,
    vip: Option<String>,
    deadline_ms: Option<String>,
    weight: Option<String>,
    name: Option<String>,
}

impl BackendParameters {
    fn order(&self, word: &str) -> Result<Order, Refusal> {
        let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
        let order = match word {
            "drain" => {
                let number = |text: &String| {
                    text.parse().map_err(|_| {
                        bad(format!("deadline_ms={text}: not a number; give one, as in deadline_ms=60000"))
                    })
                };
                Order::Drain { deadline_ms: self.deadline_ms.as_ref().map(number).transpose()? }
            }
            "disable" => Order::Disable,
            "enable" => Order::Enable,
            "remove" => Order::Remove,
            "weight" => {
                let text = self.weight.as_deref();
                let text =
                    text.ok_or_else(|| bad("weight is missing; give one, as in weight=2".to_owned()))?;
                Order::Weight(overlay::parse_weight(text).map_err(bad)?)
            }
            "add" => {
                let weight = self.weight.as_deref().map_or(Ok(1), overlay::parse_weight).map_err(bad)?;
                Order::Add { name: self.name.clone(), weight }
            }
            other => {
                let message = format!(
                    "no order {other}; known are drain, disable, enable, weight, add, remove under /v1/backend/"
                );
                return Err(Refusal(StatusCode::NOT_FOUND, message));
            }
        };
        let surplus = [
            ("deadline_ms", self.deadline_ms.is_some() && word != "drain"),
            ("weight", self.weight.is_some() && !matches!(word, "weight" | "add")),
            ("name", self.name.is_some() && word != "add"),
        ];
        match surplus.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(bad(format!("{word} takes no {name}; leave it out"))),
            None => Ok(order),
        }
    }
}

/// The parameters of an upgrade.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeParameters {
    verify_ms: Option<u64>,
}

async fn upgrade(
    State(queries): Queries,
    parameters: Result<UrlQuery<UpgradeParameters>, QueryRejection>,
    object: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let UrlQuery(UpgradeParameters { verify_ms }) = parameters.map_err(|error| bad(error.body_text()))?;
    let object = object.map_err(|error| Refusal(error.status(), error.body_text()))?;
    let verify = verify_ms.map(Duration::from_millis);
    if verify.is_some_and(|verify| verify > LONGEST_VERIFY) {
        return Err(bad(format!("verify_ms: more than {} s; give less", LONGEST_VERIFY.as_secs())));
    }
    let patience = UPGRADE_PATIENCE + verify.unwrap_or_default();
    ask_order(&queries, patience, |reply| Ask::Upgrade { object: object.to_vec(), verify, reply }).await
}

/// The parameters of a change of the balancer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeParameters {
    to: Balancer,
}

async fn change_mode(
    State(queries): Queries,
    parameters: Result<UrlQuery<ModeParameters>, QueryRejection>,
) -> Result<Response, Refusal> {
    let UrlQuery(parameters) =
        parameters.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    ask_order(&queries, MOVE_PATIENCE, |reply| Ask::Move { to: parameters.to, reply }).await
}

/// The parameters of a reload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadParameters {
    #[serde(default)]
    check: bool,
}

async fn reload(
    State(queries): Queries,
    parameters: Result<UrlQuery<ReloadParameters>, QueryRejection>,
) -> Result<Response, Refusal> {
    let UrlQuery(ReloadParameters { check }) =
        parameters.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    ask_order(&queries, PATIENCE, |reply| Ask::Reload { check, reply }).await
}

async fn backend(
    State(queries): Queries,
    Path(word): Path<String>,
    parameters: Result<UrlQuery<BackendParameters>, QueryRejection>,
) -> Result<Response, Refusal> {
    let UrlQuery(parameters) =
        parameters.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    let order = parameters.order(&word)?;
    let BackendParameters { backend, vip, .. } = parameters;
    ask_order(&queries, PATIENCE, |reply| Ask::Backend { backend, vip, order, reply }).await
}
