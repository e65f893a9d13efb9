//! Asks the balancer's daemon what it balances, every second and at once when it matters; the last answer holds while there
//! is none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_core::host::handover::{Standing, Told};
use tokio::sync::{Notify, mpsc};

use super::http::{self, HttpError};
use super::run::Input;
use crate::core::{Event, Source, VipKnowledge};
use crate::knowledge;

/// From one question to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_millis(900);
/// How long an answer with all connections may take.
const LIMIT_WHOLE: Duration = Duration::from_secs(10);
/// While the daemon changes who balances: from one question to the next, and how often it is asked.
const MOVING: Duration = Duration::from_millis(50);
const MOVING_TIMES: u32 = 40;
/// A program that is being taken off lets packets pass before it counts as off its interface: so often the daemon has to
/// say that it balances by XDP, and the pause between.
const SURE_TIMES: u32 = 4;
const SURE: Duration = Duration::from_millis(40);

/// Asks until the main task ends; `at_once` is notified when there is no time to wait.
pub async fn poll(socket: PathBuf, inputs: mpsc::Sender<Input>, at_once: Arc<Notify>) {
    let mut last: Option<VipKnowledge> = None;
    let mut trouble: Option<String> = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            biased;
            () = at_once.notified() => true,
            _ = ticks.tick() => false,
        };
        if !asked && !status(&socket, &inputs, &mut last, &mut trouble).await {
            return;
        }
        let told = if asked { whole(&socket).await } else { told(&socket, "/v1/handover", LIMIT).await };
        let event = match told {
            Ok(Some(told)) => Event::Told { told: Box::new(Ok(told)), asked },
            Ok(None) if !asked => continue,
            Ok(None) => Event::Told { told: Box::new(Err("it is of an earlier version".to_owned())), asked },
            Err(why) => Event::Told { told: Box::new(Err(why)), asked },
        };
        if inputs.send(Input::Event(event)).await.is_err() {
            return;
        }
    }
}

/// What the daemon says of VIPs and backends; false once the main task has ended.
async fn status(
    socket: &Path,
    inputs: &mpsc::Sender<Input>,
    last: &mut Option<VipKnowledge>,
    trouble: &mut Option<String>,
) -> bool {
    let answer = match http::get(socket, "/v1/status", LIMIT).await {
        Ok(body) => knowledge::of_status(&body).map_err(|why| format!("{}: {why}", socket.display())),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(known) => {
            if trouble.take().is_some() && last.is_some() {
                tracing::info!("the balancer's daemon answers again");
            }
            if last.as_ref() != Some(&known) {
                *last = Some(known.clone());
                let event = Event::Knowledge { known, source: Source::Daemon };
                return inputs.send(Input::Event(event)).await.is_ok();
            }
        }
        Err(why) => {
            if trouble.as_ref() != Some(&why) {
                if last.is_some() {
                    tracing::warn!("the balancer's daemon does not answer; what it said holds: {why}");
                } else {
                    tracing::debug!("the balancer's daemon does not answer: {why}");
                }
            }
            *trouble = Some(why);
        }
    }
    true
}

/// What the daemon tells; with all connections where its programs do not balance.
async fn whole(socket: &Path) -> Result<Option<Told>, String> {
    let mut sure = 0;
    for _ in 0..MOVING_TIMES {
        let Some(first) = told(socket, "/v1/handover", LIMIT).await? else { return Ok(None) };
        match first.standing {
            Standing::Xdp => {
                sure += 1;
                if sure == SURE_TIMES {
                    return Ok(Some(first));
                }
                tokio::time::sleep(SURE).await;
            }
            Standing::Moving => tokio::time::sleep(MOVING).await,
            Standing::Detached | Standing::OpenFlow => {
                return told(socket, "/v1/handover?connections=true", LIMIT_WHOLE).await;
            }
        }
    }
    told(socket, "/v1/handover", LIMIT).await
}

/// What the daemon tells; `None` from one that does not know the question.
async fn told(socket: &Path, target: &str, limit: Duration) -> Result<Option<Told>, String> {
    match http::get(socket, target, limit).await {
        Ok(body) => {
            serde_json::from_slice(&body).map(Some).map_err(|error| format!("{}: {error}", socket.display()))
        }
        Err(HttpError::Status { status, .. }) if status == hyper::StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
