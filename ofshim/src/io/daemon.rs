//! Asks the balancer's daemon what it balances, every second; the last answer holds while there is none.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::http;
use super::run::Input;
use crate::core::{Event, Source, VipKnowledge};
use crate::knowledge;

/// From one question to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_millis(900);

/// Asks until the main task ends.
pub async fn poll(socket: PathBuf, inputs: mpsc::Sender<Input>) {
    let mut last: Option<VipKnowledge> = None;
    let mut trouble: Option<String> = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = match http::get(&socket, "/v1/status", LIMIT).await {
            Ok(body) => knowledge::of_status(&body).map_err(|why| format!("{}: {why}", socket.display())),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(known) => {
                if trouble.take().is_some() && last.is_some() {
                    tracing::info!("the balancer's daemon answers again");
                }
                if last.as_ref() != Some(&known) {
                    last = Some(known.clone());
                    let event = Event::Knowledge { known, source: Source::Daemon };
                    if inputs.send(Input::Event(event)).await.is_err() {
                        return;
                    }
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
                trouble = Some(why);
            }
        }
    }
}
