//! `status --watch`: survey after survey on the whole terminal, with sorting and a filter.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::evictions::evictions;
use super::screen::{KeyEffect, Screen};
use super::survey::{Survey, survey_agents};
use crate::plugin::agents::query::Query;

/// Keys that were pressed and are not obeyed yet.
const KEYS: usize = 64;
/// Events are listed so often: the API server searches all Events of the cluster for them. What the agents remember of
/// evictions comes with each survey.
const EVENTS_EACH: Duration = Duration::from_secs(30);

/// Surveys and draws until a key or a signal ends it.
///
/// # Errors
/// When the terminal cannot be used.
pub async fn watch(client: Client, query: Query, interval: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut keys = keys()?;
    let mut terminal = ratatui::try_init()?;
    let mut screen = Screen::default();
    let (sender, mut surveys) = mpsc::channel(1);
    let surveying = tokio::spawn(survey_each(client, query.clone(), interval, sender));
    // The screen says how old its rows are.
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let result = loop {
        if let Err(error) = terminal.draw(|frame| screen.draw(frame, Timestamp::now())) {
            break Err(error.into());
        }
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            key = keys.recv() => match key {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if screen.key(key) == KeyEffect::Quit {
                        break Ok(());
                    }
                }
                Some(_) => {}
                None => break Ok(()),
            },
            Some(result) = surveys.recv() => match result {
                Ok(survey) => screen.show(&survey, &query, Timestamp::now()),
                Err(error) => screen.fail(&format!("{error:#}")),
            },
            _ = second.tick() => {}
        }
    };
    surveying.abort();
    ratatui::try_restore()?;
    result
}

/// Sends a survey after each interval, until nobody receives it.
async fn survey_each(client: Client, query: Query, interval: Duration, sender: mpsc::Sender<anyhow::Result<Survey>>) {
    let (mut known, mut listed_at) = (Ok(Vec::new()), None);
    loop {
        if listed_at.is_none_or(|at: tokio::time::Instant| at.elapsed() >= EVENTS_EACH) {
            (known, listed_at) = (evictions(&client, &query).await, Some(tokio::time::Instant::now()));
        }
        let survey = survey_agents(&client, &query).await;
        let survey = survey.map(|survey| Survey { evictions: known.clone(), ..survey });
        if sender.send(survey).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

/// A thread that waits for keys; it ends with the process.
fn keys() -> io::Result<mpsc::Receiver<Event>> {
    let (pressed, keys) = mpsc::channel(KEYS);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            if pressed.blocking_send(event).is_err() {
                break;
            }
        }
    })?;
    Ok(keys)
}
