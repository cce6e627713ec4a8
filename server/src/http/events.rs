//! `GET /api/events`: one stream of server-sent events per browser tab, own jobs only.
//!
//! First a snapshot of every open job, then each job that changes. Only the latest state is sent, so
//! a slow reader costs nothing and a lost event loses nothing. The stream ends when the server stops
//! or the session is revoked; a browser then asks again by itself and begins with a snapshot.

use super::AppState;
use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::startup::Services;
use atelier_app::account::Viewer;
use atelier_app::backend::Jobs as _;
use atelier_app::error::AppError;
use atelier_app::studio::{JobId, LiveEvent};
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// Between two looks at the board: previews need no more than ten a second.
const BREATH: Duration = Duration::from_millis(100);
/// How often the session behind a stream is asked for again.
const RECHECK: Duration = Duration::from_secs(20);

/// What one stream remembers between two events.
struct Stream {
    state: AppState,
    parts: Parts,
    viewer: Viewer,
    seen: u64,
    /// Jobs that the reader knows as open.
    open: HashSet<JobId>,
    outbox: VecDeque<Event>,
    checked: Instant,
}

/// Opens the stream.
pub(super) async fn events(
    State(state): State<AppState>,
    parts: Parts,
) -> Result<Response, Problem> {
    let viewer = viewer(&state, &parts).await?;
    refuse_foreign_origin(&state.services, &parts)?;
    let mut stream = Stream {
        seen: state.services.jobs.board().version(),
        state,
        parts,
        viewer,
        open: HashSet::new(),
        outbox: VecDeque::new(),
        checked: Instant::now(),
    };
    let jobs = stream.state.services.jobs.list_open(&stream.viewer).await?;
    stream.open = jobs.iter().map(|job| job.id.clone()).collect();
    stream.push(&LiveEvent::Snapshot { jobs });
    let events = futures::stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds a response back until its buffer is full, unless told not to.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

async fn viewer(state: &AppState, parts: &Parts) -> Result<Viewer, Problem> {
    ApiViewer::from_request_parts(&mut parts.clone(), state)
        .await
        .map(|ApiViewer(viewer)| viewer)
}

/// A GET passes the layer against forged requests; a page of another origin may still not listen.
fn refuse_foreign_origin(services: &Services, parts: &Parts) -> Result<(), Problem> {
    let Some(origin) = parts
        .headers
        .get(ORIGIN)
        .and_then(|value| value.to_str().ok())
    else {
        return Ok(());
    };
    let public = services
        .config
        .public_url
        .as_ref()
        .map(|url| url.origin().to_owned());
    let authority = origin
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.authority().map(ToString::to_string));
    let host = parts
        .headers
        .get(HOST)
        .and_then(|value| value.to_str().ok());
    let own = authority.is_some() && authority.as_deref() == host;
    if own || public.as_deref() == Some(origin) {
        Ok(())
    } else {
        Err(AppError::Forbidden.into())
    }
}

impl Stream {
    fn push(&mut self, event: &LiveEvent) {
        match Event::default().id(self.seen.to_string()).json_data(event) {
            Ok(event) => self.outbox.push_back(event),
            Err(error) => tracing::error!(%error, "an event could not be written"),
        }
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        let shutdown = self.state.services.shutdown.clone();
        loop {
            if let Some(event) = self.outbox.pop_front() {
                return Some(event);
            }
            if self.checked.elapsed() >= RECHECK {
                self.checked = Instant::now();
                match viewer(&self.state, &self.parts).await {
                    Ok(viewer) if viewer.id == self.viewer.id => {}
                    _ => return None,
                }
            }
            let mut changes = self.state.services.jobs.board().changes();
            let seen = self.seen;
            tokio::select! {
                () = shutdown.requested() => return None,
                changed = changes.wait_for(|version| *version > seen) => { changed.ok()?; }
                () = tokio::time::sleep(RECHECK.saturating_sub(self.checked.elapsed())) => continue,
            }
            tokio::time::sleep(BREATH).await;
            if let Err(problem) = self.look().await {
                tracing::warn!(?problem, "an event stream ends early");
                return None;
            }
        }
    }

    /// Puts everything that changed since the last look into the outbox.
    async fn look(&mut self) -> Result<(), Problem> {
        let services = self.state.services.clone();
        let since = self.seen;
        self.seen = services.jobs.board().version();
        let (mut changed, order_changed) = services.jobs.board().newer(self.viewer.id, since);
        if order_changed {
            // A place in the queue moved: whoever waits is told, and whatever is new is met.
            let before = std::mem::take(&mut self.open);
            for job in services.jobs.list_open(&self.viewer).await? {
                self.open.insert(job.id.clone());
                changed.retain(|id| *id != job.id);
                self.push(&LiveEvent::Job { job: Box::new(job) });
            }
            // What is open no more has ended, however it came about.
            for id in before {
                if !self.open.contains(&id) && !changed.contains(&id) {
                    changed.push(id);
                }
            }
        }
        for id in changed {
            match services.jobs.job(&self.viewer, &id).await {
                Ok(job) => {
                    if job.state.is_final() {
                        self.open.remove(&id);
                    } else {
                        self.open.insert(id);
                    }
                    self.push(&LiveEvent::Job { job: Box::new(job) });
                }
                Err(AppError::NotFound) => {
                    self.open.remove(&id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
