//! The progress stream as signals: `GET /api/events` → the viewer's jobs, as they are now.
//!
//! The stream is news, the server's rows are the truth: each connection begins with a snapshot, so
//! whatever was missed while disconnected is made good.

#[cfg(feature = "hydrate")]
use crate::studio::LiveEvent;
use crate::studio::{JobId, JobState, JobView};
use leptos::prelude::*;

/// The viewer's jobs and the state of the stream that keeps them fresh.
#[derive(Clone, Copy)]
pub struct Live {
    /// Jobs known to this page, oldest first: active ones and those that ended since it was opened.
    pub jobs: RwSignal<Vec<JobView>>,
    /// The job that ended last while the page watched.
    pub ended: RwSignal<Option<JobView>>,
    /// Jobs that a snapshot left out: how they ended is not known yet.
    pub unaccounted: RwSignal<Vec<JobId>>,
    lost: RwSignal<bool>,
}

impl Live {
    fn new() -> Self {
        Self {
            jobs: RwSignal::new(Vec::new()),
            ended: RwSignal::new(None),
            unaccounted: RwSignal::new(Vec::new()),
            lost: RwSignal::new(false),
        }
    }

    /// Whether the stream is down (the browser is trying to reconnect).
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Puts jobs in that came with the page; what the stream said already is newer and stays.
    pub fn seed(&self, jobs: Vec<JobView>) {
        self.jobs.update(|known| {
            for job in jobs {
                if !known.iter().any(|k| k.id == job.id) {
                    known.push(job);
                }
            }
            known.sort_by(|a, b| a.id.cmp(&b.id));
        });
    }

    /// Takes one job as it is now.
    pub fn put(&self, job: JobView) {
        let before = self
            .jobs
            .with_untracked(|jobs| jobs.iter().find(|k| k.id == job.id).map(|k| k.state));
        // The end is the last word: an older message that arrives late changes nothing.
        if before.is_some_and(JobState::is_final) && !job.state.is_final() {
            return;
        }
        self.jobs.update(|jobs| put_in_order(jobs, job.clone()));
        let just_ended = job.state.is_final() && !before.is_some_and(JobState::is_final);
        if just_ended && job.state != JobState::Cancelled {
            self.ended.set(Some(job));
        }
    }

    /// Takes one message of the stream.
    #[cfg(feature = "hydrate")]
    pub fn take(&self, event: LiveEvent) {
        match event {
            LiveEvent::Job { job } => self.put(*job),
            LiveEvent::Snapshot { jobs } => {
                let missing = self
                    .jobs
                    .with_untracked(|known| missing_from_snapshot(known, &jobs));
                for job in jobs {
                    self.put(job);
                }
                if !missing.is_empty() {
                    self.unaccounted.set(missing);
                }
            }
        }
    }

    /// Takes a job off the page (the viewer has read why it ended).
    pub fn dismiss(&self, id: &JobId) {
        self.jobs.update(|jobs| jobs.retain(|job| &job.id != id));
    }
}

fn put_in_order(jobs: &mut Vec<JobView>, job: JobView) {
    match jobs.iter_mut().find(|known| known.id == job.id) {
        Some(known) => {
            // A message without a preview does not take the last one away.
            let preview = job.preview.clone().or_else(|| known.preview.take());
            *known = JobView { preview, ..job };
        }
        None => {
            jobs.push(job);
            // Ids are UUIDv7: their order is the order of asking.
            jobs.sort_by(|a, b| a.id.cmp(&b.id));
        }
    }
}

#[cfg(any(feature = "hydrate", test))]
fn missing_from_snapshot(known: &[JobView], snapshot: &[JobView]) -> Vec<JobId> {
    known
        .iter()
        .filter(|job| !job.state.is_final() && !snapshot.iter().any(|now| now.id == job.id))
        .map(|job| job.id.clone())
        .collect()
}

/// Makes the live jobs available to every page; the stream itself is opened by [`follow`].
pub fn provide_live() -> Live {
    let live = Live::new();
    provide_context(live);
    live
}

/// The live jobs of this page.
pub fn use_live() -> Live {
    use_context::<Live>().unwrap_or_else(Live::new)
}

/// Opens the stream (browser only) and asks how unaccounted jobs ended.
pub fn follow(live: Live) {
    Effect::new(move |_| stream::open(live));
    Effect::new(move |_| {
        for id in live.unaccounted.get() {
            leptos::task::spawn_local(async move {
                match crate::studio::get_job(id.clone()).await {
                    Ok(job) => live.put(job),
                    Err(crate::error::AppError::NotFound) => live.dismiss(&id),
                    // The next snapshot asks again.
                    Err(_) => {}
                }
            });
        }
    });
}

#[cfg(feature = "hydrate")]
mod stream {
    use super::Live;
    use crate::hydrated::after;
    use leptos::prelude::*;
    use wasm_bindgen::JsCast;
    use wasm_bindgen::closure::Closure;
    use web_sys::{EventSource, MessageEvent};

    /// How long to wait before opening a stream that the server closed for good.
    const REOPEN_AFTER: std::time::Duration = std::time::Duration::from_secs(4);
    /// Interruptions shorter than this (a restart, a reload) are not worth words.
    const QUIET_FOR: std::time::Duration = std::time::Duration::from_secs(3);

    pub(super) fn open(live: Live) {
        let Ok(source) = EventSource::new("/api/events") else {
            return;
        };
        let on_open = Closure::<dyn FnMut()>::new(move || live.lost.set(false));
        source.set_onopen(Some(on_open.as_ref().unchecked_ref()));

        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            live.lost.set(false);
            let Some(text) = message.data().as_string() else {
                return;
            };
            match serde_json::from_str(&text) {
                Ok(event) => live.take(event),
                Err(error) => leptos::logging::warn!("unreadable live event: {error}"),
            }
        });
        source.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        for name in ["snapshot", "job"] {
            // Fails only for a listener that is not callable.
            let _ =
                source.add_event_listener_with_callback(name, on_message.as_ref().unchecked_ref());
        }

        let errored = source.clone();
        let on_error = Closure::<dyn FnMut()>::new(move || {
            let watched = errored.clone();
            after(QUIET_FOR, move || {
                if watched.ready_state() != EventSource::OPEN {
                    live.lost.set(true);
                }
            });
            // The browser reconnects by itself unless the answer was not a stream.
            if errored.ready_state() == EventSource::CLOSED {
                after(REOPEN_AFTER, move || open(live));
            }
        });
        source.set_onerror(Some(on_error.as_ref().unchecked_ref()));

        // The stream lives as long as the page: its closures are handed to the browser for good.
        on_open.forget();
        on_message.forget();
        on_error.forget();
    }
}

#[cfg(not(feature = "hydrate"))]
mod stream {
    pub(super) fn open(_: super::Live) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::Settings;

    fn job(id: &str, state: JobState) -> JobView {
        JobView {
            id: JobId(id.into()),
            state,
            settings: Settings {
                prompt: "a red circle".into(),
                negative_prompt: None,
                num_inference_steps: 8,
                guidance_scale: 5.0,
                width: 128,
                height: 128,
                seed: 1,
                scheduler: None,
                model: "demo".into(),
                ..Settings::default()
            },
            position: None,
            held: None,
            phase: None,
            step: 0,
            steps: 8,
            seconds_left: None,
            preview: None,
            image_id: None,
            cached: false,
            error: None,
            attempt: 1,
            rungs: Vec::new(),
            created_at: 0,
            finished_at: None,
        }
    }

    #[test]
    fn a_job_keeps_its_place_and_its_last_preview() {
        let mut jobs = Vec::new();
        put_in_order(&mut jobs, job("2", JobState::Queued));
        put_in_order(
            &mut jobs,
            JobView {
                preview: Some("data:x".into()),
                ..job("1", JobState::Running)
            },
        );
        put_in_order(
            &mut jobs,
            JobView {
                step: 3,
                ..job("1", JobState::Running)
            },
        );
        assert_eq!(
            jobs.iter().map(|j| j.id.0.as_str()).collect::<Vec<_>>(),
            ["1", "2"]
        );
        assert_eq!(
            (jobs[0].step, jobs[0].preview.as_deref()),
            (3, Some("data:x"))
        );
    }

    #[test]
    fn only_active_jobs_can_go_missing() {
        let known = [
            job("1", JobState::Done),
            job("2", JobState::Running),
            job("3", JobState::Queued),
        ];
        let snapshot = [job("3", JobState::Running)];
        assert_eq!(
            missing_from_snapshot(&known, &snapshot),
            [JobId("2".into())]
        );
    }
}
